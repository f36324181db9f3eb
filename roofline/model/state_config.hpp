// Layers with a state in place of a cache in a Hugging Face config.json. All of these write spec.state and the
// mixers of spec.layer_kinds.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// Qwen3-Next, Qwen3.5: gated delta nets, and full attention every full_attention_interval layers.
void read_gated_delta_layers(const JsonFields& config, ModelSpec& spec);
/// Kimi Linear: Kimi delta attention in the layers that linear_attn_config lists.
void read_kimi_linear_layers(const JsonFields& config, ModelSpec& spec);
/// Granite-4: Mamba-2 or attention, by layer_types.
void read_granite_layers(const JsonFields& config, ModelSpec& spec);
/// Nemotron-H: a layer is Mamba-2, attention, a dense FFN or experts; the pattern gives their number, too.
void read_nemotron_pattern(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
