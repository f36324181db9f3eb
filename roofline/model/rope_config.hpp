// The rotary embedding of a Hugging Face config.json.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// Reads rope_theta and rope_scaling (or rope_parameters) into spec.rope; what the engine does not run goes
/// to spec.not_runnable. Where the file does not say: `partial`, the share of a head's values that is rotated, and
/// `theta`.
void read_rope(const JsonFields& config, ModelSpec& spec, double partial, double theta);

}  // namespace helix
