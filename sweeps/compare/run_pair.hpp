// Whether two runs differ, row by row, from their samples and from each other's rows.
//
//  - A row's shift is that of its median. Its standard error is McKean and Schrader's, widened by the
//    samples' autocorrelation: steps that follow each other are no independent samples.
//  - That says how well each run knows itself. How far two runs of one program lie apart is larger on a
//    shared machine, and no sample of a run tells it; but most rows of most changes are as they were, and
//    their shifts scatter by just that. So with eight rows and more a row has to stand out from the scatter
//    of the rows' shifts about their median (Qn: P. J. Rousseeuw, C. Croux, "Alternatives to the Median
//    Absolute Deviation", J. Am. Stat. Assoc. 88 (1993) 1273), Holm-corrected.
//  - Fewer rows, and a movement of all rows alike, have nothing to be held against but what runs are known to
//    differ by: `run_noise`. They have to move by more, and by more than their standard errors explain.
#pragma once

#include <span>
#include <vector>

#include "sweeps/compare/movements.hpp"

namespace helix {

/// Samples of one row on both sides, positive, at least two each.
struct SampledRow {
  std::vector<double> base_us, new_us;
};

/// `run_noise`: relative; `level`: chance of a false alarm in one direction, for what would be detectable.
Movements movements_of(std::span<const SampledRow> rows, double run_noise, double level);

}  // namespace helix
