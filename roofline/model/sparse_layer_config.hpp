// Which layers of a Hugging Face config.json choose among the cached tokens, and how. As those of layer_config.hpp, the readers
// write spec.layer_kinds and spec.other_attention.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// GLM-5.2: some layers take the choice of an earlier one.
void read_indexer_layers(const JsonFields& config, ModelSpec& spec);
/// MiniMax-M3: by sparse_attention_config.
void read_block_sparse_layers(const JsonFields& config, ModelSpec& spec);
/// DeepSeek-V4: by compress_ratios.
void read_compressed_layers(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
