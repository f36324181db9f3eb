// parse_model: a Hugging Face config.json, as it is, to a ModelSpec.
//
// A feature that changes what a step reads or computes in a way the planner cannot count is refused by its
// field's name; one that it can count but the engine does not run is listed in not_runnable. Fields that
// describe training or generation are not read.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "roofline/base/json_fields.hpp"
#include "roofline/base/spelling.hpp"
#include "roofline/model/config_json.hpp"
#include "roofline/model/config_limits.hpp"
#include "roofline/model/family.hpp"
#include "roofline/model/model_keys.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/model/quantization_config.hpp"
#include "roofline/model/rope_config.hpp"

namespace helix {
namespace {

const Family* find_family(std::string_view model_type) {
  const auto found = std::ranges::find(families(), model_type, &Family::model_type);
  return found == families().end() ? nullptr : &*found;
}

const Family& family_of(const JsonFields& config, const std::string& model_type) {
  if (const Family* family = find_family(model_type)) return *family;
  std::vector<std::string> known;
  for (const Family& family : families()) known.emplace_back(family.model_type);
  config.refuse("model_type",
                "not one of the architectures of docs/models.md" + did_you_mean(model_type, known));
}

void read_activation(const JsonFields& config, ModelSpec& spec) {
  const std::string known = spec.gated_unit.kind == GatedUnit::Kind::gelu_tanh ? "gelu_pytorch_tanh" : "silu";
  for (const char* key : {"hidden_act", "hidden_activation", "mlp_hidden_act"}) {
    if (config.text_or(key, known) == known) continue;
    spec.not_runnable.emplace_back(config.show(key));
    return;
  }
}

/// Granite's factors; the engine has that of the residual stream in its matrices alone, not in their biases.
void read_multipliers(const JsonFields& config, const Family::Traits& traits, ModelSpec& spec) {
  const auto read = [&](const char* key) { return config.real_or(key, limits::factor, 1.0); };
  spec.embedding_multiplier = read("embedding_multiplier");
  spec.residual_multiplier = read("residual_multiplier");
  spec.logits_divisor = read("logits_scaling");
  spec.attention.multiplier =
      config.real_or("attention_multiplier", limits::factor, traits.attention_multiplier);
  if (spec.residual_multiplier != 1.0 && (spec.attention.output_bias || spec.ffn_bias))
    spec.not_runnable.emplace_back(config.show("residual_multiplier"));
}

/// Where a class that is not known to read attention_bias has it, the engine does not know either.
void read_attention_bias(const JsonFields& config, const Family::Traits& traits, ModelSpec& spec) {
  using enum Family::Traits::Biased;
  const bool bias = config.flag_or("attention_bias", traits.biased);
  spec.attention.qkv_bias = bias || (traits.qkv_bias && config.flag_or("qkv_bias", true));
  spec.attention.output_bias = (bias && traits.attention_bias == qkv_and_output) ||
                               (traits.output_bias_key && config.flag_or(traits.output_bias_key, false));
  if (bias && traits.attention_bias == unknown) spec.not_runnable.emplace_back(config.show("attention_bias"));
}

/// Layers that are as they would be without layer_kinds need none.
void simplify_layers(ModelSpec& spec) {
  const auto first_moe = std::ranges::find_if(spec.layer_kinds, &LayerKind::moe);
  const std::int64_t dense = first_moe - spec.layer_kinds.begin();
  if (spec.moe.experts > 0) spec.moe.first_dense_layers = dense;
  const std::vector<LayerKind> kinds = std::move(spec.layer_kinds);
  spec.layer_kinds.clear();
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    if (spec.layer_kind(layer) == kinds[static_cast<std::size_t>(layer)]) continue;
    spec.layer_kinds = kinds;
    return;
  }
}

/// What the engine has once for all layers.
void judge_layers(ModelSpec& spec) {
  const AttentionSpec& a = spec.attention;
  for (const AttentionSpec& other : spec.other_attention) {
    if (std::tie(a.q_heads, a.kv_heads, a.qk_head_dim, a.v_head_dim) ==
        std::tie(other.q_heads, other.kv_heads, other.qk_head_dim, other.v_head_dim))
      continue;
    spec.not_runnable.emplace_back("layers with heads of their own");
    return;
  }
}

ModelSpec read_model(const JsonFields& config, const Family& family, const std::string& origin) {
  const Family::Traits& traits = family.traits;
  ModelSpec spec;
  spec.name = origin;
  spec.hidden = config.whole("hidden_size", limits::hidden);
  if (traits.read_depth) {
    config.find("num_hidden_layers");
    traits.read_depth(config, spec);
  } else {
    spec.layers = config.whole("num_hidden_layers", limits::layers);
    spec.layer_kinds.assign(static_cast<std::size_t>(spec.layers), {});
  }
  spec.vocab = traits.vocab > 0 ? config.whole_or("vocab_size", limits::vocab, traits.vocab)
                                : config.whole("vocab_size", limits::vocab);
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", traits.tied);
  spec.max_position = config.whole_or("max_position_embeddings", limits::tokens, traits.max_position);
  spec.blocks = traits.blocks;
  spec.norm = traits.norm;
  spec.post_norms = traits.post_norms;
  const char* const eps = traits.norm == NormKind::layer ? "layer_norm_eps" : "rms_norm_eps";
  spec.norm_eps = config.real_or(eps, limits::eps, traits.norm_eps);
  if (!traits.lacks.empty()) spec.not_runnable.emplace_back(traits.lacks);

  spec.attention = {.q_heads = traits.q_heads,
                    .kv_heads = traits.kv_heads,
                    .qk_head_dim = traits.head_dim,
                    .qk_norm = traits.qk_norm,
                    .q_lora_rank = traits.q_lora_rank};
  if (config.flag_or("use_qk_norm", false) && traits.qk_norm == QkNorm::none)
    spec.attention.qk_norm = traits.asked_qk_norm;
  const char* norm_key = "qk_norm_type";
  if (traits.qk_norm == QkNorm::whole && config.text_or(norm_key, "per_layer") != "per_layer")
    spec.not_runnable.emplace_back(config.show(norm_key));
  spec.rope.interleaved = traits.interleaved_rope;
  read_attention_bias(config, traits, spec);
  family.read_attention(config, spec);
  spec.ffn_bias = traits.ffn_bias && config.flag_or("mlp_bias", false);
  family.read_ffn(config, spec);
  read_rope(config, spec,
            {.query_growth = traits.query_growth,
             .partial = traits.partial_rotary,
             .theta = traits.rope_theta,
             .window_theta = traits.window_rope_theta});
  if (traits.multipliers) read_multipliers(config, traits, spec);
  if (traits.logit_scale > 0.0)
    spec.logits_divisor = 1.0 / config.real_or("logit_scale", limits::factor, traits.logit_scale);
  spec.attention.window = std::max(spec.attention.window, traits.window);
  family.read_layers(config, spec);
  judge_layers(spec);
  simplify_layers(spec);
  read_precision(config, spec);

  read_activation(config, spec);
  judge_unread(config, spec);
  return spec;
}

}  // namespace

ModelSpec parse_model(std::string_view json_text, const std::string& origin) {
  const nlohmann::json root = parse_config(json_text, origin);
  const JsonFields config(root, origin);
  require_language_model(config);
  const auto inner = language_part(config);
  if (!inner) {
    const std::string type = config.text("model_type");
    return read_model(config, family_of(config, type), origin);
  }
  const std::string whole = config.text("model_type");
  const std::string type = inner->text_or("model_type", find_family(whole) ? whole : whole + "_text");
  ModelSpec spec = read_model(*inner, family_of(inner->has("model_type") ? *inner : config, type), origin);
  if (!inner->has("tie_word_embeddings")) {
    spec.tied_embeddings = config.flag_or("tie_word_embeddings", spec.tied_embeddings);
  }
  if (!inner->has("quantization_config")) read_precision(config, spec);
  judge_unread_around(config, spec);
  return spec;
}

}  // namespace helix
