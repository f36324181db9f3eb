// Which rows are on a Pareto frontier.
#pragma once

#include <vector>

#include "sweeps/results/result_row.hpp"

namespace helix {

/// Sets `pareto` on the ok rows within the budget that no other of the same model, context and precision (of
/// predictions also the same system) beats in both tokens/s/user and tokens/s/GPU, and `pareto_tie` on the measured ones
/// that no row of the frontier beats in both by more than the noise.
void mark_pareto(std::vector<ResultRow>& rows);

}  // namespace helix
