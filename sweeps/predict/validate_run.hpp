// `predict --validate`: the model held against measured kernels.
#pragma once

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Prints the errors by op family; returns the exit code.
int run_validate(const PredictRequest& request);

}  // namespace helix
