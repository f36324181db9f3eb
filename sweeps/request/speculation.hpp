// What a request says of drafted tokens.
#pragma once

#include <utility>
#include <vector>

#include "sweeps/request/sweep_space.hpp"

namespace helix {

/// Drafted tokens and what they yield, for each acceptance that is possible with them.
std::vector<std::pair<int, double>> speculations(const SweepSpace& space);

/// Throws UsageError: every acceptance needs drafts that can yield it, and drafts with any acceptance one that they can.
void refuse_unmet_acceptances(const SweepSpace& space);

}  // namespace helix
