// The rotary embedding of a Hugging Face config.json.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// Reads rope_theta and rope_scaling (or rope_parameters) into spec.rope; what the engine does not run goes
/// to spec.not_runnable.
void read_rope(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
