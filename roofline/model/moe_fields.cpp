#include "roofline/model/moe_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

#include "roofline/model/config_limits.hpp"
#include "roofline/model/layer_config.hpp"

namespace helix {
namespace {

void read_expert_groups(const JsonFields& config, MoeSpec& moe, const MoeKeys& keys,
                        const RouterDefaults& defaults) {
  const char* groups = present(config, {"n_group", "num_expert_group"});
  const bool grouped = config.has(groups) || config.has("topk_group"),
             by_class = !config.names(groups) && !config.names("topk_group");
  moe.groups = grouped ? config.whole(groups, limits::experts) : by_class ? defaults.groups : 1;
  moe.top_groups = grouped ? config.whole("topk_group", limits::experts) : by_class ? defaults.top_groups : 1;
  // DeepSeek-V3 ranks a group by the sum of its two best experts.
  if (moe.experts % moe.groups != 0 || moe.experts / moe.groups < 2) {
    config.refuse(groups, fmt::format("expected groups of equal size, two or more of {} = {} in each",
                                      keys.experts, moe.experts));
  }
  if (moe.top_groups > moe.groups) {
    config.refuse("topk_group", fmt::format("expected at most {} = {}", groups, moe.groups));
  }
  if (const std::int64_t choice = moe.experts / moe.groups * moe.top_groups; moe.top_k > choice) {
    config.refuse(keys.top_k, fmt::format("expected at most the {} experts of topk_group groups", choice));
  }
}

}  // namespace

const char* present(const JsonFields& config, std::initializer_list<const char*> keys) {
  for (const char* key : keys) {
    if (config.has(key)) return key;
  }
  return *keys.begin();
}

void read_experts(const JsonFields& config, MoeSpec& moe, const MoeKeys& keys,
                  std::int64_t shared_by_default) {
  moe.experts = config.whole(keys.experts, limits::experts);
  moe.top_k = config.whole(keys.top_k, limits::experts);
  if (moe.top_k > moe.experts) {
    config.refuse(keys.top_k, fmt::format("expected at most {} = {}", keys.experts, moe.experts));
  }
  moe.expert_ffn = config.whole(keys.width, limits::ffn);
  if (keys.shared_count) {
    moe.shared_experts =
        config.whole_or(keys.shared_count, limits::or_none(limits::experts), shared_by_default);
    moe.shared_ffn = moe.shared_experts * moe.expert_ffn;
  }
  if (keys.shared_width && config.has(keys.shared_width)) {
    moe.shared_ffn = config.whole(keys.shared_width, limits::or_none(limits::ffn));
    if (moe.shared_ffn > 0) moe.shared_experts = std::max<std::int64_t>(1, moe.shared_experts);
  }
}

void read_dense_width(const JsonFields& config, ModelSpec& spec, const char* key) {
  spec.ffn = config.whole(key, limits::ffn);
}

void place_experts_after_dense(const JsonFields& config, ModelSpec& spec, std::int64_t first_by_default,
                               const char* dense_width) {
  const std::int64_t first =
      config.whole_or("first_k_dense_replace", {0, spec.layers}, std::min(first_by_default, spec.layers));
  if (const auto* types = config.array("mlp_layer_types")) {
    const LayerWords words(config, "mlp_layer_types", *types, spec.layers);
    return place_experts(
        config, spec,
        [&](std::int64_t layer) {
          return words.is(layer, {"sparse", "moe"}, {"dense"});
        },
        dense_width);
  }
  const auto* freq = config.find("moe_layer_freq");
  if (freq && freq->is_array()) {
    const LayerFlags flags(config, "moe_layer_freq", *freq, spec.layers);
    return place_experts(
        config, spec, [&](std::int64_t layer) { return flags[layer]; }, dense_width);
  }
  config.whole_or("moe_layer_freq", limits::only_one, 1);
  place_experts(
      config, spec, [&](std::int64_t layer) { return layer >= first; }, dense_width);
}

void read_router(const JsonFields& config, ModelSpec& spec, const MoeKeys& keys,
                 const RouterDefaults& defaults) {
  MoeSpec& moe = spec.moe;
  const bool normalize = config.flag_or("norm_topk_prob", defaults.normalize_top_k);
  moe.normalize_top_k = normalize && defaults.reads_norm_topk_prob;
  moe.routed_scaling =
      config.real_or("routed_scaling_factor", limits::factor, defaults.routed_scaling_factor);
  const std::string scoring = config.text_or("scoring_func", defaults.scoring_func);
  const std::string method = config.text_or("topk_method", defaults.topk_method);
  if (scoring == "sigmoid" && method == "noaux_tc") {
    moe.router = RouterKind::sigmoid_grouped;
    moe.choice_bias = true;
    read_expert_groups(config, moe, keys, defaults);
  } else if (scoring == "softmax" && method == "group_limited_greedy") {
    moe.router = RouterKind::softmax_grouped;
    read_expert_groups(config, moe, keys, defaults);
  } else if (scoring != "softmax" || method != "greedy") {
    // The planner counts the router's product and its experts, whichever of them it chooses.
    for (const char* key : {"scoring_func", "topk_method"}) {
      if (config.has(key)) spec.not_runnable.emplace_back(config.show(key));
    }
  }
}

}  // namespace helix
