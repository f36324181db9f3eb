#include "roofline/model/rope_config.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "roofline/model/model_keys.hpp"

namespace helix {
namespace {

constexpr RealLimits factor_limits{1e-6, 1e6};
constexpr RealLimits theta_limits{1.0, 1e15};
constexpr WholeLimits position_limits{1, std::int64_t{1} << 40};

constexpr const char* original_length = "original_max_position_embeddings";

std::vector<double> read_stretches(const JsonFields& scaling, const char* key, std::int64_t pairs) {
  std::vector<double> stretches;
  if (const auto* list = scaling.array(key)) {
    for (const auto& entry : *list) stretches.push_back(entry.is_number() ? entry.get<double>() : 0.0);
  }
  const bool positive = std::ranges::all_of(stretches, [](double x) { return x > 0.0 && std::isfinite(x); });
  if (!positive || std::ssize(stretches) != pairs)
    scaling.refuse(key, fmt::format("expected {} numbers above 0, one a pair of rotated values", pairs));
  return stretches;
}

/// The long factors, for all positions, as engines take them for a context beyond the original one.
void read_longrope(const JsonFields& config, const JsonFields& scaling, RopeSpec& rope, std::int64_t pairs) {
  const std::int64_t longest = config.whole("max_position_embeddings", position_limits);
  rope.scaling = RopeScalingKind::longrope;
  rope.original_max_position =
      (scaling.has(original_length) ? scaling : config).whole(original_length, position_limits);
  rope.factor =
      scaling.real_or("factor", factor_limits,
                      static_cast<double>(longest) / static_cast<double>(rope.original_max_position));
  const std::vector<double> of_short = read_stretches(scaling, "short_factor", pairs),
                            of_long = read_stretches(scaling, "long_factor", pairs);
  rope.stretches = longest > rope.original_max_position ? of_long : of_short;
  rope.attention_factor = scaling.real_or("attention_factor", factor_limits, 0.0);
}

void read_rope_scaling(const JsonFields& config, const JsonFields& scaling, RopeSpec& rope,
                       std::int64_t pairs, ModelSpec& spec) {
  const char* type_key = scaling.has("type") && !scaling.has("rope_type") ? "type" : "rope_type";
  const std::string type =
      scaling.has("factor") ? scaling.text(type_key) : scaling.text_or(type_key, "default");
  if (type == "default") return;
  if (type == "longrope" || type == "su") return read_longrope(config, scaling, rope, pairs);
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
  rope.original_max_position = scaling.has(original_length) || !config.has("max_position_embeddings")
                                   ? scaling.whole(original_length, position_limits)
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
  rope.attention_factor = scaling.real_or("attention_factor", factor_limits, 0.0);
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
  // Of latent attention it repeats qk_rope_head_dim.
  const AttentionSpec& a = spec.attention;
  const auto of_head = std::llround(share * static_cast<double>(a.qk_head_dim));
  if (a.kind == AttentionKind::mla && of_head == a.qk_rope_head_dim) return by_default;
  spec.not_runnable.emplace_back(fields.show(key));
  return by_default;
}

void read_query_growth(const JsonFields& scaling, RopeSpec& rope) {
  const char* key = "llama_4_scaling_beta";
  if (scaling.has(key)) rope.query_growth = scaling.real(key, {0.0, factor_limits.max});
  if (rope.query_growth > 0.0) rope.original_max_position = scaling.whole(original_length, position_limits);
}

std::int64_t rotated_values(double share, const ModelSpec& spec) {
  return static_cast<std::int64_t>(static_cast<double>(spec.attention.rope_dim()) * share);
}

void rotate_share(double share, ModelSpec& spec) {
  AttentionSpec& a = spec.attention;
  const std::int64_t rotated = rotated_values(share, spec);
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
  if (!config.has("rope_scaling")) config.find(original_length);
  if (defaults.query_growth && !config.has("rope_scaling") && !config.has("rope_parameters"))
    spec.not_runnable.emplace_back("rope_parameters left out");
  if (const auto scaling = config.object("rope_scaling")) {
    read_rope_scaling(config, *scaling, spec.rope, rotated_values(share, spec) / 2, spec);
    if (defaults.query_growth) read_query_growth(*scaling, spec.rope);
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
      read_rope_scaling(config, fields, rope, rotated_values(share, spec) / 2, spec);
      if (defaults.query_growth) read_query_growth(fields, rope);
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
