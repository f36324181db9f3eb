#include "roofline/model/rope_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "roofline/model/model_keys.hpp"

namespace helix {
namespace {

constexpr RealLimits factor_limits{1e-6, 1e6};
constexpr RealLimits theta_limits{1.0, 1e15};
constexpr WholeLimits position_limits{1, std::int64_t{1} << 40};

void read_rope_scaling(const JsonFields& config, const JsonFields& scaling, RopeSpec& rope, ModelSpec& spec) {
  const char* type_key = scaling.has("type") && !scaling.has("rope_type") ? "type" : "rope_type";
  const std::string type =
      scaling.has("factor") ? scaling.text(type_key) : scaling.text_or(type_key, "default");
  if (type == "default") return;
  if (type != "linear" && type != "llama3" && type != "yarn") {
    spec.not_runnable.emplace_back(scaling.show(type_key));
    for (const std::string& key : scaling.unread()) scaling.find(key.c_str());  // they are its own
    return;
  }
  rope.factor = scaling.real("factor", factor_limits);
  if (type == "linear") {
    rope.scaling = RopeScalingKind::linear;
    return;
  }
  const char* original = "original_max_position_embeddings";
  rope.original_max_position = scaling.has(original) || !config.has("max_position_embeddings")
                                   ? scaling.whole(original, position_limits)
                                   : config.whole("max_position_embeddings", position_limits);
  if (type == "llama3") {
    rope.scaling = RopeScalingKind::llama3;
    rope.low_freq_factor = scaling.real_or("low_freq_factor", factor_limits, rope.low_freq_factor);
    rope.high_freq_factor = scaling.real_or("high_freq_factor", factor_limits, rope.high_freq_factor);
    if (rope.high_freq_factor < rope.low_freq_factor) {
      scaling.refuse("high_freq_factor",
                     fmt::format("expected low_freq_factor = {} at least", rope.low_freq_factor));
    }
    if (rope.high_freq_factor == rope.low_freq_factor) {  // a step in place of a transition
      spec.not_runnable.emplace_back(scaling.show("high_freq_factor"));
    }
    return;
  }
  rope.scaling = RopeScalingKind::yarn;
  rope.beta_fast = scaling.real_or("beta_fast", factor_limits, rope.beta_fast);
  rope.beta_slow = scaling.real_or("beta_slow", factor_limits, rope.beta_slow);
  rope.mscale = scaling.real_or("mscale", {0.0, factor_limits.max}, rope.mscale);
  rope.mscale_all_dim = scaling.real_or("mscale_all_dim", {0.0, factor_limits.max}, rope.mscale_all_dim);
  if (scaling.has("attention_factor")) spec.not_runnable.emplace_back(scaling.show("attention_factor"));
  rope.truncate = scaling.flag_or("truncate", true);
}

/// The share of a head's values that is rotated, by the names that files have for it. `read`: whether the class does.
double rotated_share(const JsonFields& fields, ModelSpec& spec, bool read, double by_default) {
  const char* key = "partial_rotary_factor";
  if (read && fields.has("rotary_dim")) {
    const auto width = static_cast<double>(spec.attention.qk_head_dim);
    by_default = std::min(1.0, static_cast<double>(fields.whole("rotary_dim", {0, 1 << 14})) / width);
  }
  const double share = fields.real_or(key, {0.0, 1.0}, by_default);
  if (read || share == by_default) return share;
  spec.not_runnable.emplace_back(fields.show(key));
  return by_default;
}

void rotate_share(double share, ModelSpec& spec) {
  AttentionSpec& a = spec.attention;
  const auto rotated = static_cast<std::int64_t>(static_cast<double>(a.rope_dim()) * share);
  if (rotated % 2 != 0) {
    spec.not_runnable.emplace_back(fmt::format("RoPE of {} values", rotated));
  } else {
    a.unrotated = a.kind == AttentionKind::mla ? 0 : a.qk_head_dim - rotated;
  }
}

}  // namespace

void read_rope(const JsonFields& config, ModelSpec& spec, const RopeDefaults& defaults) {
  const double partial = defaults.partial;
  const auto* given = config.find("rope_theta");
  if (given && given->is_array()) {
    spec.not_runnable.emplace_back(config.show("rope_theta"));  // one a layer
  } else {
    spec.rope.theta = config.real_or("rope_theta", theta_limits, defaults.theta);
  }
  const bool read = partial > 0.0;
  double share = rotated_share(config, spec, read, read ? partial : 1.0);
  if (!config.has("rope_scaling")) config.find("original_max_position_embeddings");
  if (const auto scaling = config.object("rope_scaling")) {
    read_rope_scaling(config, *scaling, spec.rope, spec);
    judge_unread(*scaling, spec);
  }
  if (defaults.window_theta > 0.0) {
    spec.window_rope.emplace();
    spec.window_rope->theta = config.real_or("rope_local_base_freq", theta_limits, defaults.window_theta);
  }
  if (const auto parameters = config.object("rope_parameters")) {  // both in one, as transformers 5 writes it
    const auto read_parameters = [&](const JsonFields& fields, RopeSpec& rope) {
      rope.theta = fields.real_or("rope_theta", theta_limits, rope.theta);
      share = rotated_share(fields, spec, read, share);
      read_rope_scaling(config, fields, rope, spec);
      judge_unread(fields, spec);
    };
    if (spec.window_rope && parameters->has("full_attention")) {
      read_parameters(*parameters->object("full_attention"), spec.rope);
      if (const auto local = parameters->object("sliding_attention"))
        read_parameters(*local, *spec.window_rope);
      judge_unread(*parameters, spec);
    } else {
      read_parameters(*parameters, spec.rope);
    }
  }
  rotate_share(share, spec);
}

}  // namespace helix
