// The shardings that a sweep's widths leave.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "roofline/model/model_spec.hpp"
#include "roofline/step/sharding.hpp"
#include "sweeps/request/sweep_space.hpp"

namespace helix {

/// Shardings that share the listed widths.
using ShardingGroups = std::vector<std::vector<Sharding>>;

/// What no shape makes legal is left out; a group of nothing else keeps one, to give the reason.
ShardingGroups sharding_groups(const SweepSpace& space, const ModelSpec& model, Strategy strategy,
                               std::int64_t max_ranks);

/// Those of each requested strategy.
using StrategyGrids = std::vector<std::pair<Strategy, ShardingGroups>>;

/// A Helix layout without KV parallelism is a baseline (see counted_as); where that strategy is asked for as
/// well and has the same layout, it stands there alone.
void drop_twins(StrategyGrids& grids);

/// Lists of widths that no requested strategy has would be ignored: throws UsageError instead.
void refuse_unused_lists(const SweepSpace& space);
/// A list of widths none of which any sharding has would vanish without a row: throws UsageError instead.
void refuse_unmet_lists(const SweepSpace& space, const StrategyGrids& grids);

}  // namespace helix
