#pragma once

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// `verify --weights`: every sharding of the request decodes a text with a checkpoint's weights; logits, tokens and
/// perplexity are held against the fp64 reference. Returns the exit code: 1 if a sharding does not agree.
int run_verify_text(const SweepRequest& request);

}  // namespace helix
