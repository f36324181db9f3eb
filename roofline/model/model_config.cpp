// parse_model: a Hugging Face config.json, as it is, to a ModelSpec.
//
// A feature that changes what a step reads or computes in a way the planner cannot count is refused by its
// field's name; one that it can count but the engine does not run is listed in not_runnable. Fields that
// describe training or generation are not read.
#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_keys.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/model/quantization_config.hpp"
#include "roofline/model/rope_config.hpp"

namespace helix {
namespace {

// Far above any published model, and low enough that 64 bits count the values of a layer.
constexpr WholeLimits hidden_limits{1, 1 << 20};
constexpr WholeLimits ffn_limits{1, 1 << 22};
constexpr WholeLimits vocab_limits{1, 1 << 24};
constexpr WholeLimits layer_limits{1, 1 << 12};
constexpr WholeLimits head_limits{1, 1 << 14};
constexpr WholeLimits head_dim_limits{1, 1 << 14};
constexpr WholeLimits rank_limits{1, 1 << 16};
constexpr WholeLimits expert_limits{1, 1 << 14};
constexpr WholeLimits token_limits{1, std::int64_t{1} << 40};
constexpr WholeLimits only_one{1, 1};
constexpr RealLimits factor_limits{1e-6, 1e6};
constexpr RealLimits eps_limits{0.0, 0.1};

constexpr double default_rms_eps = 1e-6;

void require_pairs(const JsonFields& config, const char* key, std::int64_t width) {
  if (width % 2 != 0) config.refuse(key, "expected an even number: RoPE rotates pairs");
}

void read_gqa(const JsonFields& config, ModelSpec& spec) {
  AttentionSpec& a = spec.attention;
  a.kind = AttentionKind::gqa;
  // The family's default is in kv_heads; a null stands for as many as query heads.
  const bool by_class = !config.names("num_key_value_heads") && a.kv_heads > 0;
  a.kv_heads = config.whole_or("num_key_value_heads", head_limits, by_class ? a.kv_heads : a.q_heads);
  if (a.q_heads % a.kv_heads != 0) {
    config.refuse("num_key_value_heads",
                  fmt::format("expected a divisor of num_attention_heads = {}", a.q_heads));
  }
  if (!config.has("head_dim") && spec.hidden % a.q_heads != 0) {
    config.refuse("head_dim",
                  fmt::format("expected it, as hidden_size = {} is no multiple of num_attention_heads = {}",
                              spec.hidden, a.q_heads));
  }
  a.qk_head_dim = config.whole_or("head_dim", head_dim_limits, spec.hidden / a.q_heads);
  a.v_head_dim = a.qk_head_dim;
  require_pairs(config, "head_dim", a.qk_head_dim);
}

void read_mla(const JsonFields& config, ModelSpec& spec) {
  AttentionSpec& a = spec.attention;
  a.kind = AttentionKind::mla;
  a.kv_heads = 1;
  a.q_lora_rank = config.whole_or("q_lora_rank", {0, rank_limits.max}, 0);
  a.kv_lora_rank = config.whole("kv_lora_rank", rank_limits);
  a.qk_nope_head_dim = config.whole("qk_nope_head_dim", head_dim_limits);
  a.qk_rope_head_dim = config.whole("qk_rope_head_dim", head_dim_limits);
  a.qk_head_dim = a.qk_nope_head_dim + a.qk_rope_head_dim;
  a.v_head_dim = config.whole("v_head_dim", head_dim_limits);
  require_pairs(config, "qk_rope_head_dim", a.qk_rope_head_dim);
  spec.rope.interleaved = config.flag_or("rope_interleave", true);
}

void read_experts(const JsonFields& config, MoeSpec& moe, const char* experts_key, const char* width_key) {
  moe.experts = config.whole(experts_key, expert_limits);
  moe.top_k = config.whole("num_experts_per_tok", expert_limits);
  if (moe.top_k > moe.experts) {
    config.refuse("num_experts_per_tok", fmt::format("expected at most {} = {}", experts_key, moe.experts));
  }
  moe.expert_ffn = config.whole(width_key, ffn_limits);
}

void read_dense(const JsonFields& config, ModelSpec& spec) {
  spec.ffn = config.whole("intermediate_size", ffn_limits);
  if (config.flag_or("mlp_bias", false)) spec.not_runnable.emplace_back(config.show("mlp_bias"));
}

void read_mixtral_moe(const JsonFields& config, ModelSpec& spec) {
  read_experts(config, spec.moe, "num_local_experts", "intermediate_size");
  spec.moe.normalize_top_k = true;
}

void read_qwen3_moe(const JsonFields& config, ModelSpec& spec) {
  // transformers 5 writes all experts' number under Mixtral's name.
  const bool renamed = config.has("num_local_experts") && !config.has("num_experts");
  const char* experts = renamed ? "num_local_experts" : "num_experts";
  read_experts(config, spec.moe, experts, "moe_intermediate_size");
  spec.moe.normalize_top_k = config.flag_or("norm_topk_prob", false);
  config.whole_or("decoder_sparse_step", only_one, 1);
  if (const auto* layers = config.array("mlp_only_layers"); layers && !layers->empty()) {
    config.refuse("mlp_only_layers", "only [] is supported");
  }
}

void read_gpt_oss_moe(const JsonFields& config, ModelSpec& spec) {
  read_mixtral_moe(config,
                   spec);  // softmax over the chosen experts = softmax over all, normalised over the chosen
  spec.not_runnable.emplace_back("attention sinks");
  spec.not_runnable.emplace_back("router and expert biases");
  spec.not_runnable.emplace_back(config.has("swiglu_limit") ? config.show("swiglu_limit") : "clamped SwiGLU");
}

void read_expert_groups(const JsonFields& config, MoeSpec& moe) {
  moe.groups = config.whole("n_group", expert_limits);
  moe.top_groups = config.whole("topk_group", expert_limits);
  // A group is ranked by the sum of its two best experts.
  if (moe.experts % moe.groups != 0 || moe.experts / moe.groups < 2) {
    config.refuse("n_group",
                  fmt::format("expected groups of equal size, two or more of n_routed_experts = {} in each",
                              moe.experts));
  }
  if (moe.top_groups > moe.groups) {
    config.refuse("topk_group", fmt::format("expected at most n_group = {}", moe.groups));
  }
  if (const std::int64_t choice = moe.experts / moe.groups * moe.top_groups; moe.top_k > choice) {
    config.refuse("num_experts_per_tok",
                  fmt::format("expected at most the {} experts of topk_group groups", choice));
  }
}

struct DeepSeekDefaults {
  std::string_view scoring_func, topk_method;
  bool normalize_top_k;
  bool reads_norm_topk_prob;  // the class of V2 does not
  double routed_scaling_factor;
  std::int64_t shared_experts, dense_layers;
};

void read_deepseek_moe(const JsonFields& config, ModelSpec& spec, const DeepSeekDefaults& defaults) {
  MoeSpec& moe = spec.moe;
  read_experts(config, moe, "n_routed_experts", "moe_intermediate_size");
  moe.shared_experts = config.whole_or("n_shared_experts", {0, expert_limits.max}, defaults.shared_experts);
  moe.shared_ffn = moe.shared_experts * moe.expert_ffn;
  moe.first_dense_layers = config.whole_or("first_k_dense_replace", {0, spec.layers},
                                           std::min(spec.layers, defaults.dense_layers));
  config.whole_or("moe_layer_freq", only_one, 1);
  if (moe.first_dense_layers > 0) spec.ffn = config.whole("intermediate_size", ffn_limits);
  const bool normalize = config.flag_or("norm_topk_prob", defaults.normalize_top_k);
  moe.normalize_top_k = normalize && defaults.reads_norm_topk_prob;
  moe.routed_scaling = config.real_or("routed_scaling_factor", factor_limits, defaults.routed_scaling_factor);

  const std::string scoring = config.text_or("scoring_func", defaults.scoring_func);
  const std::string method = config.text_or("topk_method", defaults.topk_method);
  if (scoring == "sigmoid" && method == "noaux_tc") {
    moe.router = RouterKind::sigmoid_grouped;
    read_expert_groups(config, moe);
  } else if (scoring != "softmax" || method != "greedy") {
    // The planner counts the router's product and its experts, whichever of them it chooses.
    for (const char* key : {"scoring_func", "topk_method"}) {
      if (config.has(key)) spec.not_runnable.emplace_back(config.show(key));
    }
  }
}

void read_deepseek_v2_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"softmax", "greedy", false, false, 1.0, 2, 0});
}

void read_deepseek_v3_moe(const JsonFields& config, ModelSpec& spec) {
  read_deepseek_moe(config, spec, {"sigmoid", "noaux_tc", true, true, 2.5, 1, 3});
}

/// Which layers attend over a window where the configuration states its length but not layer_types.
enum class WindowedLayers { none, all, odd_numbered, from_max_window_layers };

struct Family {
  std::string_view model_type;
  void (*read_attention)(const JsonFields&, ModelSpec&);
  void (*read_ffn)(const JsonFields&, ModelSpec&);
  bool qk_norm = false;
  bool qkv_bias = false;  // in the architecture itself
  WindowedLayers windowed = WindowedLayers::none;
  std::int64_t kv_heads = 0;  // where the file leaves num_key_value_heads out; 0: as many as query heads
};

// What is missing in a file has the default of its class in Hugging Face's transformers.
constexpr auto families = std::to_array<Family>({
    {"llama", read_gqa, read_dense},
    {"mistral", read_gqa, read_dense, false, false, WindowedLayers::all, 8},
    {"qwen2", read_gqa, read_dense, false, true, WindowedLayers::from_max_window_layers, 32},
    {"qwen3", read_gqa, read_dense, true, false, WindowedLayers::from_max_window_layers, 32},
    {"qwen3_moe", read_gqa, read_qwen3_moe, true, false, WindowedLayers::from_max_window_layers, 4},
    {"mixtral", read_gqa, read_mixtral_moe, false, false, WindowedLayers::all, 8},
    {"gpt_oss", read_gqa, read_gpt_oss_moe, false, false, WindowedLayers::odd_numbered, 8},
    {"deepseek_v2", read_mla, read_deepseek_v2_moe},
    {"deepseek_v3", read_mla, read_deepseek_v3_moe},
    {"kimi_k2", read_mla, read_deepseek_v3_moe},
});

const Family& family_of(const JsonFields& config) {
  const std::string type = config.text("model_type");
  std::string known;
  for (const Family& family : families) {
    if (family.model_type == type) return family;
    known += known.empty() ? "" : ", ";
    known += family.model_type;
  }
  config.refuse("model_type", "not a supported architecture; supported: " + known);
}

void refuse_sparse_attention(const JsonFields& config) {
  for (const char* key : {"index_topk", "index_n_heads", "index_head_dim"}) {
    if (config.has(key))
      config.refuse(key, "sparse attention (an indexer that picks the cached tokens) is not supported");
  }
}

bool layer_type_is_sliding(const JsonFields& config, const nlohmann::json& type) {
  const bool sliding = type == "sliding_attention";
  if (!sliding && type != "full_attention") {
    config.refuse("layer_types", "expected only \"full_attention\" and \"sliding_attention\"");
  }
  return sliding;
}

void read_windows(const JsonFields& config, const Family& family, ModelSpec& spec) {
  const bool by_default = family.windowed != WindowedLayers::from_max_window_layers;
  const bool used = config.flag_or("use_sliding_window", by_default);
  const std::int64_t window = config.whole_or("sliding_window", token_limits, 0);
  if (family.windowed == WindowedLayers::none && !config.has("layer_types"))
    return;  // the architecture has none
  const std::int64_t first_windowed =
      family.windowed == WindowedLayers::from_max_window_layers
          ? config.whole_or("max_window_layers", {0, layer_limits.max}, spec.layers)
          : 0;
  const auto* types = config.array("layer_types");
  if (types && types->size() != static_cast<std::size_t>(spec.layers)) {
    config.refuse("layer_types", fmt::format("expected {} entries, one for each layer", spec.layers));
  }
  std::vector<std::int64_t> windows;
  bool any = false;
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const bool odd_numbered = layer % 2 == 0;  // counting from 1
    const bool sliding =
        types ? layer_type_is_sliding(config, (*types)[static_cast<std::size_t>(layer)])
              : layer >= first_windowed && (family.windowed != WindowedLayers::odd_numbered || odd_numbered);
    if (types && used && sliding && window == 0)
      config.refuse("sliding_window", "expected the window of layer_types");
    windows.push_back(used && sliding ? window : 0);
    any = any || windows.back() > 0;
  }
  if (!any) return;
  spec.layer_windows = std::move(windows);
  spec.not_runnable.emplace_back(config.show("sliding_window"));
}

/// NaN and Infinity, which Hugging Face writes and JSON does not have, as null.
std::string without_non_finite(std::string_view text) {
  std::string json;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (quoted && text[at] == '\\' && at + 1 < text.size()) {
      json += text[at++];
    } else if (text[at] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      const auto word = [&](std::string_view expected) { return text.substr(at).starts_with(expected); };
      const std::size_t length = word("NaN") ? 3 : word("Infinity") ? 8 : word("-Infinity") ? 9 : 0;
      if (length > 0) {
        json += "null";
        at += length - 1;
        continue;
      }
    }
    json += text[at];
  }
  return json;
}

/// The language model inside a multimodal one.
std::optional<JsonFields> language_part(const JsonFields& config) {
  if (config.has("hidden_size")) return std::nullopt;
  for (const char* key : {"text_config", "llm_config", "language_config"}) {
    if (config.has(key)) return config.object(key);
  }
  return std::nullopt;
}

ModelSpec read_model(const JsonFields& config, const std::string& origin) {
  refuse_sparse_attention(config);
  const Family& family = family_of(config);

  ModelSpec spec;
  spec.name = origin;
  spec.hidden = config.whole("hidden_size", hidden_limits);
  spec.layers = config.whole("num_hidden_layers", layer_limits);
  spec.vocab = config.whole("vocab_size", vocab_limits);
  spec.tied_embeddings = config.flag_or("tie_word_embeddings", false);
  spec.max_position = config.whole_or("max_position_embeddings", token_limits, 0);
  spec.rms_eps = config.real_or("rms_norm_eps", eps_limits, default_rms_eps);

  spec.attention.q_heads = config.whole("num_attention_heads", head_limits);
  spec.attention.qk_norm = family.qk_norm;
  spec.attention.kv_heads = family.kv_heads;
  family.read_attention(config, spec);
  family.read_ffn(config, spec);
  read_rope(config, spec);
  read_windows(config, family, spec);
  read_precision(config, spec);

  if (family.qkv_bias) spec.not_runnable.emplace_back("QKV bias");
  if (config.flag_or("attention_bias", false)) spec.not_runnable.emplace_back(config.show("attention_bias"));
  spec.attention.qkv_bias = family.qkv_bias || config.flag_or("attention_bias", false);
  if (config.text_or("hidden_act", "silu") != "silu")
    spec.not_runnable.emplace_back(config.show("hidden_act"));
  judge_unread(config, spec);
  return spec;
}

}  // namespace

ModelSpec parse_model(std::string_view json_text, const std::string& origin) {
  const nlohmann::json root = parse_json(without_non_finite(json_text), origin);
  const JsonFields config(root, origin);
  require_language_model(config);
  const auto inner = language_part(config);
  if (!inner) return read_model(config, origin);
  ModelSpec spec = read_model(*inner, origin);
  if (!inner->has("tie_word_embeddings")) spec.tied_embeddings = config.flag_or("tie_word_embeddings", false);
  if (!inner->has("quantization_config")) read_precision(config, spec);
  config.find("model_type");  // of the whole
  judge_unread(config, spec);
  return spec;
}

}  // namespace helix
