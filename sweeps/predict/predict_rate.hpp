// `predict --bench`: how fast the model answers.
#pragma once

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Prints configurations per second, those of a first answer and those of points that have been priced
/// before; returns the exit code.
int run_predict_rate(const PredictRequest& request);

}  // namespace helix
