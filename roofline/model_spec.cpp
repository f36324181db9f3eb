#include "roofline/model_spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <system_error>

#include "roofline/embedded.hpp"
#include "roofline/error.hpp"
#include "roofline/quantization_config.hpp"
#include "roofline/text_file.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
}

/// "Qwen3-32B" for both Qwen3-32B.json and Qwen3-32B/config.json.
std::string model_name(const fs::path& path) {
  if (path.stem() != "config") return path.stem().string();
  std::error_code ignored;
  const std::string folder = fs::absolute(path, ignored).lexically_normal().parent_path().filename().string();
  return folder.empty() ? "config" : folder;
}

/// NVIDIA's checkpoints have their precision in a file of its own beside the config.json.
void read_precision_beside(const fs::path& config, ModelSpec& spec) {
  const fs::path file = config.parent_path() / "hf_quant_config.json";
  std::error_code ignored;
  if (spec.weights != WeightPrecision{} || config.filename() != "config.json" ||
      !fs::is_regular_file(file, ignored))
    return;
  const std::string path = file.string();
  const nlohmann::json json = parse_json(read_text_file(path, "precision of the checkpoint"), path);
  read_hf_quant_config(JsonFields(json, path), spec);
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
  ModelSpec spec = parse_model(read_text_file(name_or_path, "config.json"), name_or_path);
  spec.name = model_name(name_or_path);
  read_precision_beside(name_or_path, spec);
  return spec;
}

std::vector<std::string> built_in_models() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_models()) names.emplace_back(file.name);
  return names;
}

}  // namespace helix
