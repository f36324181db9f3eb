#pragma once

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// `generate`: the first layout of the request that runs in this world decodes the prompt token by token from an empty
/// cache, and then what the model answers, until it ends or --max-new-tokens. Returns the exit code.
int run_generate(const SweepRequest& request);

}  // namespace helix
