#include "sweeps/request/resumed_request.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/step/weight_request.hpp"

namespace helix {
namespace {

using nlohmann::ordered_json;

/// What tells two models of one name apart: the file may have been changed.
std::string shape_of(const ModelSpec& model) {
  const AttentionSpec& a = model.attention;
  const MoeSpec& m = model.moe;
  std::string shape = fmt::format(
      "{} layers, hidden {}, vocab {}, FFN {}, {} heads on {} of {} and {}, latents {} and {}, {} experts of "
      "{}, top "
      "{}, shared {}, {} dense layers",
      model.layers, model.hidden, model.vocab, model.ffn, a.q_heads, a.kv_heads, a.qk_head_dim, a.v_head_dim,
      a.q_lora_rank, a.kv_lora_rank, m.experts, m.expert_ffn, m.top_k, m.shared_ffn, m.first_dense_layers);
  for (std::size_t layer = 0; layer < model.layer_kinds.size(); ++layer) {
    const LayerKind& kind = model.layer_kinds[layer];
    const AttentionSpec& of_layer = model.attention_of(kind);
    shape += fmt::format("{}{}:{}:{}:{}", layer == 0 ? ", kinds " : " ", static_cast<int>(kind.mixer),
                         static_cast<int>(kind.ffn), of_layer.kv_heads, of_layer.window);
  }
  return shape;
}

/// "fp8", or what each part is where they differ.
std::string weights_of(const ModelSpec& model, const WeightRequest& wanted) {
  DecodeShape shape;
  wanted.apply(model, shape);
  if (!shape.weights) return std::string(name(shape.weight_dtype));
  std::string parts = precision_of_parts(model, shape);
  std::ranges::replace(parts, ' ', '+');
  return parts;
}

std::string text_of(const ordered_json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_null()) return "none";
  if (value.is_number_float()) return fmt::format("{:g}", value.get<double>());
  if (!value.is_array()) return value.dump();
  std::string text;
  for (const auto& entry : value) {
    if (!text.empty()) text += ',';
    text += text_of(entry);
  }
  return text;
}

/// "--seed 1, not 7"
std::string difference(const std::string& key, const ordered_json& before, const ordered_json& now) {
  if (key == "ranks of the launch") return fmt::format("{} ranks, not {}", text_of(before), text_of(now));
  if (!before.is_object() || !now.is_object()) {
    return fmt::format("--{} {}, not {}", key, text_of(before), text_of(now));
  }
  std::vector<std::string> names_before, names_now;
  for (const auto& [name, shape] : before.items()) names_before.push_back(name);
  for (const auto& [name, shape] : now.items()) names_now.push_back(name);
  if (names_before != names_now) {
    return fmt::format("--{} {}, not {}", key, fmt::join(names_before, ","), fmt::join(names_now, ","));
  }
  for (const auto& [name, shape] : before.items()) {
    if (now.at(name) != shape) {
      return fmt::format("a {} '{}' with {}, not {}", key, name, text_of(shape), text_of(now.at(name)));
    }
  }
  return {};
}

}  // namespace

ordered_json lasting_request(const SweepRequest& request, const ModelTable& models, int world_ranks) {
  std::map<std::string, std::string> shapes;  // in the order of names, however they were listed
  for (const auto& [requested, model] : models) shapes[model.name] = shape_of(model);
  std::set<std::string> weights, caches;
  std::set<std::int64_t> layers;
  for (const SweepSpace& block : request.blocks) {
    for (const std::string& requested : block.models) {
      const ModelSpec& model = models.at(model_key(block, requested));
      for (const WeightRequest& wanted : block.weight_dtypes) weights.insert(weights_of(model, wanted));
      for (const std::optional<DType>& wanted : block.kv_dtypes)
        caches.emplace(name(wanted.value_or(model.kv_dtype)));
    }
    layers.insert(block.layers);
  }
  ordered_json lasting = {
      {"model", shapes},
      {"weight-dtype", weights},
      {"kv-dtype", caches},
      {"layers", layers},
      {"seed", request.seed},
      {"ranks of the launch", world_ranks},
      {"backend", request.backend},
      {"system", request.systems.empty() ? std::vector<std::string>{"auto"} : request.systems},
      {"max-time", request.stopping.max_time_s},
      {"min-samples", request.stopping.min_samples},
      {"rel-error", request.stopping.relative_error},
      {"ttl-budget", request.ttl_budget_ms ? ordered_json(*request.ttl_budget_ms) : ordered_json(nullptr)},
      {"memory-fraction", request.memory_fraction}};
  if (request.as_rank_of) lasting["as-rank-of"] = *request.as_rank_of;
  if (!request.weights.empty()) lasting["weights"] = request.weights.string();
  return lasting;
}

void refuse_other_request(const ordered_json& run_json, const ordered_json& now,
                          const std::string& directory) {
  if (!run_json.is_object() || !run_json.contains("request") || !run_json["request"].is_object()) return;
  const ordered_json& before = run_json["request"];
  std::vector<std::string> differences;
  for (const auto& [key, value] : now.items()) {
    if (before.contains(key) && before[key] == value) continue;
    differences.push_back(difference(key, before.contains(key) ? before[key] : ordered_json(nullptr), value));
  }
  if (differences.empty()) return;
  std::string began;
  if (run_json.contains("command_line") && run_json["command_line"].is_array()) {
    for (const auto& word : run_json["command_line"]) {
      began += ' ';
      began += text_of(word);
    }
  }
  throw UsageError(fmt::format("--resume: the run in '{}' began with {}; valid: what it began with{}",
                               directory, fmt::join(differences, "; "), began.empty() ? "" : ":" + began));
}

}  // namespace helix
