// The rotary embedding of a Hugging Face config.json.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// Where the file does not say.
struct RopeDefaults {
  bool query_growth = false;  // whether the class reads llama_4_scaling_beta
  double partial = 0.0;       // the share of a head's values that is rotated; 0: the class rotates all
  double theta = 1e4;
  double window_theta = 0.0;  // of layers with a window; 0: they have no RoPE of their own
};

/// Reads rope_theta and rope_scaling (or rope_parameters) into spec.rope and spec.window_rope; what the engine does not
/// run goes to spec.not_runnable.
void read_rope(const JsonFields& config, ModelSpec& spec, const RopeDefaults& defaults);

}  // namespace helix
