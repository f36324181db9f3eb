// Rotary embedding parameters of a model: frequencies, amplitude and the attention scale that belongs
// to them. Semantics of Hugging Face transformers (modeling_rope_utils.py, and modeling_deepseek.py
// for YaRN's scales).
#pragma once

#include <cstdint>
#include <vector>

#include "roofline/model/model_spec.hpp"

namespace helix {

/// [rope_dim / 2] radians per position, in falling order; computed in fp64 and rounded once.
std::vector<float> inv_frequencies(const RopeSpec& rope, std::int64_t rope_dim);

/// Factor on cos and sin: 1, or YaRN's mscale; of one of its two scales alone nothing comes, as in transformers.
double rope_amplitude(const RopeSpec& rope);

/// What q k^T is multiplied with before the softmax: 1 / sqrt(qk_head_dim), times mscale^2 for MLA with YaRN; or the
/// model's own multiplier.
double attention_scale(const ModelSpec& model);

}  // namespace helix
