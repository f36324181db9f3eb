// Which strategy a layout is, whatever it was asked for as.
#pragma once

#include "roofline/step/sharding.hpp"

namespace helix {

/// Helix without KV parallelism is one of the baselines: with DP = 1 it is tp or tp+pp, and where each rank
/// of a single stage attends requests of its own it is dp+ep. Such a layout counts for the baseline, so that
/// Helix wins only by what it adds.
Strategy counted_as(Strategy strategy, const Sharding& sharding);

}  // namespace helix
