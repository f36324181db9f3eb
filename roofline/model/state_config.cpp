#include "roofline/model/state_config.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "roofline/model/config_limits.hpp"
#include "roofline/model/layer_config.hpp"

namespace helix {
namespace {

double state_value_bytes(const JsonFields& config, const char* key) {
  const std::string type = config.text_or(key, "float32");
  if (type == "float32" || type == "auto") return fp32_bytes;
  if (type != "bfloat16" && type != "float16") config.refuse(key, "expected float32, bfloat16 or float16");
  return bf16_bytes;
}

LayerKind& kind_of(ModelSpec& spec, std::int64_t layer) {
  return spec.layer_kinds[static_cast<std::size_t>(layer)];
}

struct MambaKeys {
  const char *heads, *head_dim, *groups, *state, *kernel, *dtype;
};

StateSpec mamba2(const JsonFields& config, const MambaKeys& keys, std::int64_t hidden) {
  const std::int64_t heads = config.whole(keys.heads, limits::heads);
  std::int64_t head_dim = 0;
  if (const auto* value = config.find(keys.head_dim); value && *value == "auto") {
    head_dim = config.whole_or("mamba_expand", limits::layers, 2) * hidden / heads;
    if (head_dim < 1) config.refuse(keys.heads, "more heads than channels");
  } else {
    head_dim = config.whole(keys.head_dim, limits::head_dim);
  }
  StateSpec state{.kind = StateKind::mamba2,
                  .heads = heads,
                  .key_heads = config.whole_or(keys.groups, limits::heads, 1),
                  .key_dim = config.whole(keys.state, limits::head_dim),
                  .value_dim = head_dim,
                  .conv_kernel = config.whole_or(keys.kernel, limits::layers, 4)};
  state.state_value_bytes = state_value_bytes(config, keys.dtype);
  return state;
}

}  // namespace

void read_gated_delta_layers(const JsonFields& config, ModelSpec& spec) {
  spec.state = StateSpec{.kind = StateKind::gated_delta_net,
                         .heads = config.whole("linear_num_value_heads", limits::heads),
                         .key_heads = config.whole("linear_num_key_heads", limits::heads),
                         .key_dim = config.whole("linear_key_head_dim", limits::head_dim),
                         .value_dim = config.whole("linear_value_head_dim", limits::head_dim),
                         .conv_kernel = config.whole_or("linear_conv_kernel_dim", limits::layers, 4)};
  spec.state->state_value_bytes = state_value_bytes(config, "mamba_ssm_dtype");
  constexpr std::int64_t interval_of_class = 4;
  const std::int64_t interval = config.whole_or("full_attention_interval", limits::layers, interval_of_class);
  const auto* types = config.array("layer_types");
  for (std::int64_t layer = 0; layer < spec.layers; ++layer) {
    const bool full = types ? LayerWords(config, "layer_types", *types, spec.layers)
                                  .is(layer, {"full_attention"}, {"linear_attention"})
                            : (layer + 1) % interval == 0;
    if (!full) kind_of(spec, layer).mixer = Mixer::state;
  }
  spec.not_runnable.emplace_back("gated delta net");
}

void read_kimi_linear_layers(const JsonFields& config, ModelSpec& spec) {
  const auto linear = config.object("linear_attn_config");
  if (!linear) config.refuse("linear_attn_config", "expected it");
  const std::int64_t dim = linear->whole("head_dim", limits::head_dim);
  const std::int64_t heads = linear->whole("num_heads", limits::heads);
  spec.state = StateSpec{.kind = StateKind::kimi_delta_attention,
                         .heads = heads,
                         .key_heads = heads,
                         .key_dim = dim,
                         .value_dim = dim,
                         .conv_kernel = linear->whole_or("short_conv_kernel_size", limits::layers, 4),
                         .full_rank_gate = linear->flag_or("use_full_rank_gate", false)};
  const auto* layers = linear->array("kda_layers");
  if (!layers) linear->refuse("kda_layers", "expected the numbers of layers, from 1");
  for (const auto& layer : *layers) {
    if (!layer.is_number_integer() || layer < 1 || layer > spec.layers)
      linear->refuse("kda_layers", fmt::format("expected the numbers of layers, from 1 to {}", spec.layers));
    kind_of(spec, layer.get<std::int64_t>() - 1).mixer = Mixer::state;
  }
  spec.not_runnable.emplace_back("Kimi delta attention");
}

void read_granite_layers(const JsonFields& config, ModelSpec& spec) {
  const auto* types = config.array("layer_types");
  bool any = false;
  for (std::int64_t layer = 0; types && layer < spec.layers; ++layer) {
    if (!LayerWords(config, "layer_types", *types, spec.layers)
             .is(layer, {"mamba", "linear_attention"}, {"attention", "full_attention"}))
      continue;
    kind_of(spec, layer).mixer = Mixer::state;
    any = true;
  }
  for (const char* key : {"mamba_chunk_size", "mamba_conv_bias", "mamba_expand", "mamba_proj_bias"})
    config.find(key);
  if (!any) {
    for (const char* key :
         {"mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_state", "mamba_d_conv"})
      config.find(key);
    return;
  }
  spec.state = mamba2(config,
                      {.heads = "mamba_n_heads",
                       .head_dim = "mamba_d_head",
                       .groups = "mamba_n_groups",
                       .state = "mamba_d_state",
                       .kernel = "mamba_d_conv",
                       .dtype = "mamba_ssm_cache_dtype"},
                      spec.hidden);
  spec.not_runnable.emplace_back("Mamba-2");
}

void read_nemotron_pattern(const JsonFields& config, ModelSpec& spec) {
  std::vector<std::string> blocks;
  const char* key = config.has("layers_block_type") ? "layers_block_type" : "hybrid_override_pattern";
  if (const auto* listed = config.array("layers_block_type")) {
    const LayerWords words(config, key, *listed, static_cast<std::int64_t>(listed->size()));
    for (std::size_t i = 0; i < listed->size(); ++i) blocks.emplace_back(words[static_cast<std::int64_t>(i)]);
  } else {
    for (const char c : config.text("hybrid_override_pattern")) blocks.emplace_back(1, c);
  }
  config.find("hybrid_override_pattern");
  if (blocks.empty() || blocks.size() > static_cast<std::size_t>(limits::layers.max))
    config.refuse(key, "expected a block for each layer");
  spec.layers = static_cast<std::int64_t>(blocks.size());
  spec.layer_kinds.assign(blocks.size(), {});
  bool any = false;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::string& block = blocks[i];
    LayerKind& kind = spec.layer_kinds[i];
    if (block == "M" || block == "mamba" || block == "linear_attention") {
      kind = {.mixer = Mixer::state, .ffn = Ffn::none};
      any = true;
    } else if (block == "*" || block == "attention" || block == "full_attention") {
      kind = {.mixer = Mixer::attention, .ffn = Ffn::none};
    } else if (block == "-" || block == "mlp") {
      kind = {.mixer = Mixer::none, .ffn = Ffn::dense};
    } else if (block == "E" || block == "moe") {
      kind = {.mixer = Mixer::none, .ffn = Ffn::moe};
    } else {
      config.refuse(key,
                    fmt::format("'{:.20}' of layer {} is not supported; supported: M, *, -, E", block, i));
    }
  }
  for (const char* unused : {"chunk_size", "expand", "use_conv_bias", "mamba_hidden_act", "mamba_proj_bias",
                             "use_mamba_kernels", "time_step_floor", "time_step_max", "time_step_min",
                             "time_step_limit", "time_step_rank", "num_logits_to_keep"})
    config.find(unused);
  if (!any) return;
  spec.state = mamba2(config,
                      {.heads = "mamba_num_heads",
                       .head_dim = "mamba_head_dim",
                       .groups = "n_groups",
                       .state = "ssm_state_size",
                       .kernel = "conv_kernel",
                       .dtype = "mamba_ssm_cache_dtype"},
                      spec.hidden);
  spec.not_runnable.emplace_back("Mamba-2");
}

}  // namespace helix
