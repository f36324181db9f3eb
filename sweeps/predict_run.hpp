#pragma once
#include "sweeps/sweep_request.hpp"
namespace helix {
inline int run_predict(const PredictRequest&) { return 3; }
}
