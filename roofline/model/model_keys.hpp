// What a config.json says beyond what has been read of it.
#pragma once

#include "roofline/base/json_fields.hpp"
#include "roofline/model/model_spec.hpp"

namespace helix {

/// Throws UsageError for an architecture that is no whole language model: a draft head, a classifier.
void require_language_model(const JsonFields& config);

/// Judges the keys of `config` that nothing was read from: of training, generation and bookkeeping they are
/// harmless; those of other parts (vision) go to spec.left_out; those that change what a step reads in a way
/// that is not counted are refused by name; all others go to spec.not_runnable, as the engine does not know
/// what they mean. So does nothing whose value says "off".
void judge_unread(const JsonFields& config, ModelSpec& spec);
/// The same of what stands around the language model of a multimodal file: other parts go to spec.left_out, and
/// how their inputs become tokens says nothing about a step.
void judge_unread_around(const JsonFields& config, ModelSpec& spec);

}  // namespace helix
