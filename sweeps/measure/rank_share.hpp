// One rank of a sharding was measured without the others: its share of a step, and beside it what they exchange.
#pragma once

#include "sweeps/results/result_row.hpp"

namespace helix {

/// `measured`: steps of a rank alone, whose exchanges were its own copies; they are taken out. Those of all ranks are
/// the prediction's, the all-to-all as far as the measured attention does not hide it. `pieces`: HOP-B's.
RankShare rank_share(Measurement measured, const Prediction& prediction, int pieces);

}  // namespace helix
