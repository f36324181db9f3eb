#pragma once
#include "sweeps/sweep_request.hpp"
namespace helix {
int run_predict(const PredictRequest& request);
}
