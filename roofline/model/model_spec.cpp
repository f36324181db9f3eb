#include "roofline/model/model_spec.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <system_error>

#include "roofline/base/embedded.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/spelling.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/model/config_file.hpp"
#include "roofline/model/quantization_config.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(
      a, b, [](unsigned char x, unsigned char y) { return std::tolower(x) == std::tolower(y); });
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

/// "Qwen/Qwen3-235B-A22B" and "meta-llama/Meta-Llama-3.1-405B-Instruct" by the names of the built-in models.
std::string hugging_face_name(std::string name) {
  if (const auto slash = name.rfind('/'); slash != std::string::npos) name.erase(0, slash + 1);
  std::ranges::transform(name, name.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const std::string_view prefix : {"meta-"}) {
    if (name.starts_with(prefix)) name.erase(0, prefix.size());
  }
  for (const std::string_view suffix : {"-instruct", "-base", "-chat", "-fp8", "-fp4"}) {
    if (name.ends_with(suffix)) name.erase(name.size() - suffix.size());
  }
  return name;
}

const EmbeddedFile* find_built_in(const std::string& name) {
  for (const EmbeddedFile& file : embedded_models()) {
    if (equal_ignoring_case(file.name, name)) return &file;
  }
  return nullptr;
}

}  // namespace

LayerKind ModelSpec::layer_kind(std::int64_t layer) const {
  if (layer == layers) return draft_kind.value_or(layer_kind(layers - 1));
  if (!layer_kinds.empty()) return layer_kinds.at(static_cast<std::size_t>(layer));
  return {.ffn = moe.experts > 0 && layer >= moe.first_dense_layers ? Ffn::moe : Ffn::dense};
}

bool ModelSpec::has_part(WeightPart part) const {
  switch (part) {
    case WeightPart::dense_ffn:
      return has_dense_ffn();
    case WeightPart::routed_experts:
    case WeightPart::router:
      return moe.experts > 0;
    case WeightPart::shared_experts:
      return moe.shared_ffn > 0;
    default:
      return true;
  }
}

std::vector<LayerGroup> ModelSpec::layer_groups(std::int64_t depth) const {
  std::vector<LayerGroup> groups;
  depth = std::min(depth, layers);
  if (layer_kinds.empty()) {
    const std::int64_t dense = moe.experts > 0 ? std::min(moe.first_dense_layers, depth) : depth;
    if (dense > 0) groups.push_back({layer_kind(0), dense});
    if (dense < depth) groups.push_back({layer_kind(dense), depth - dense});
    return groups;
  }
  for (std::int64_t layer = 0; layer < depth; ++layer) {
    const LayerKind kind = layer_kind(layer);
    auto group = std::ranges::find(groups, kind, &LayerGroup::kind);
    if (group == groups.end()) group = groups.insert(groups.end(), {kind, 0});
    ++group->count;
  }
  return groups;
}

ModelSpec load_model(const std::string& name_or_path) {
  const auto built_in = [](const EmbeddedFile& file) {
    return parse_model(file.text, std::string(file.name));
  };
  if (const EmbeddedFile* file = find_built_in(name_or_path)) return built_in(*file);
  std::error_code ignored;
  if (!fs::exists(name_or_path, ignored)) {
    const std::string name = hugging_face_name(name_or_path);
    if (const EmbeddedFile* file = find_built_in(name)) return built_in(*file);
    const std::vector<std::string> known = built_in_models();
    const bool repository = std::ranges::count(name_or_path, '/') == 1 && !name_or_path.starts_with('.') &&
                            !name_or_path.ends_with(".json");
    throw UsageError(fmt::format(
        "unknown model '{}': there is no such file, and the built-in models are {}{}{}", name_or_path,
        fmt::join(known, ", "), did_you_mean(name, known),
        repository ? "; of another Hugging Face model save its config.json and give the path of that file"
                   : ""));
  }
  const fs::path path = config_file(name_or_path);
  ModelSpec spec = parse_model(read_text_file(path.string(), "config.json"), path.string());
  spec.name = model_name(path);
  read_precision_beside(path, spec);
  return spec;
}

std::vector<std::string> built_in_models() {
  std::vector<std::string> names;
  for (const EmbeddedFile& file : embedded_models()) names.emplace_back(file.name);
  return names;
}

}  // namespace helix
