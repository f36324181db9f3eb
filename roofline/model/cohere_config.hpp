// What is Command-R's alone in a Hugging Face config.json.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// GQA, and the words in which some files describe their class.
void read_cohere_gqa(const JsonFields& config, ModelSpec& spec);
/// Cohere2: every n-th layer, by sliding_window_pattern or else every fourth, looks back on all and is without RoPE.
void read_cohere2_layers(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
