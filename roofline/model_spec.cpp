#include "roofline/model_spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <system_error>

#include "roofline/embedded.hpp"
#include "roofline/error.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

std::string read_config_file(const std::string& path) {
  constexpr std::size_t longest = std::size_t{16} << 20;  // real ones have a few KiB; a path may be a device
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    throw UsageError(fmt::format("model '{}' is a directory; expected its config.json", path));
  }
  std::ifstream file(path, std::ios::binary);
  std::string text(longest + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) throw UsageError(fmt::format("cannot read the model file '{}'", path));
  text.resize(static_cast<std::size_t>(file.gcount()));
  if (text.size() > longest) {
    throw UsageError(fmt::format("'{}' has more than {} MiB; expected a config.json", path, longest >> 20));
  }
  return text;
}

/// "Qwen3-32B" for both Qwen3-32B.json and Qwen3-32B/config.json.
std::string model_name(const fs::path& path) {
  if (path.stem() != "config") return path.stem().string();
  std::error_code ignored;
  const std::string folder = fs::absolute(path, ignored).lexically_normal().parent_path().filename().string();
  return folder.empty() ? "config" : folder;
}

}  // namespace

std::int64_t AttentionSpec::kv_values_per_token() const {
  return kind == AttentionKind::mla ? kv_lora_rank + qk_rope_head_dim : qk_head_dim + v_head_dim;
}

LayerKind ModelSpec::layer_kind(std::int64_t layer) const {
  return {.moe = moe.experts > 0 && layer >= moe.first_dense_layers,
          .window = layer_windows.empty() ? 0 : layer_windows.at(static_cast<std::size_t>(layer))};
}

std::vector<LayerGroup> ModelSpec::layer_groups(std::int64_t depth) const {
  std::vector<LayerGroup> groups;
  for (std::int64_t layer = 0; layer < std::min(depth, layers); ++layer) {
    const LayerKind kind = layer_kind(layer);
    auto group = std::ranges::find(groups, kind, &LayerGroup::kind);
    if (group == groups.end()) group = groups.insert(groups.end(), {kind, 0});
    ++group->count;
  }
  return groups;
}

ModelSpec load_model(const std::string& name_or_path) {
  for (const EmbeddedFile& file : embedded_models()) {
    if (equal_ignoring_case(file.name, name_or_path)) return parse_model(file.text, std::string(file.name));
  }
  std::error_code ignored;
  if (!fs::exists(name_or_path, ignored)) {
    throw UsageError(fmt::format("unknown model '{}': there is no such file, and the built-in models are {}",
                                 name_or_path, fmt::join(built_in_models(), ", ")));
  }
  ModelSpec spec = parse_model(read_config_file(name_or_path), name_or_path);
  spec.name = model_name(name_or_path);
  return spec;
}

std::vector<std::string> built_in_models() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_models()) names.emplace_back(file.name);
  return names;
}

}  // namespace helix
