// The command `predict`: every configuration of the request from the model alone, no MPI launch and
// no GPU needed.
#pragma once

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Returns the exit code. The sweep is walked twice, first for what it comes to, then for its rows, so that
/// memory does not grow with it.
int run_predict(const PredictRequest& request);

}  // namespace helix
