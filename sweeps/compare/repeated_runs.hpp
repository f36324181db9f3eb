// Whether two sides differ where each was run several times, the run being the unit.
//
// Samples of one run are no independent samples of the program: on a shared machine a whole run, or a row's
// part of it, is in one mode or another (placement of its memory, a neighbour), and all its samples with it.
// So each run counts once, by its median. Interleaving the runs of both sides keeps the machine's load from
// falling on one of them.
//
//  - Units: the logarithm of each row's median in each run. The common part of a run is the median over its
//    rows, the own part of a row what is left: a mode of a whole run moves the common part, so that a single
//    row that became slower still stands out. With fewer than four rows there is no telling the two apart,
//    and rows are judged whole.
//  - A row by itself has too few runs to know its noise, so rows share what they know: moderated t
//    (shared_variance.hpp), Holm-corrected.
//  - Rare disturbances (a run in which one row was hit) are drawn in to five robust standard deviations from
//    the median of their side, and a movement only counts if at least half of it shows in the faster half of
//    the runs, too: what disturbs a run makes it slower. Where more than an eighth of all values would be
//    drawn in they are no rare disturbances, and all values count as they are.
//  - All rows alike: a t test on the common parts, which a permutation of the runs has to confirm (R. A.
//    Fisher, "The Design of Experiments" (1935), ch. 3), since whole runs that have modes are not normal. All
//    labellings are tried if they are at most 10,000, else as many random ones, the observed one among them.
#pragma once

#include <cstddef>
#include <vector>

#include "sweeps/compare/movements.hpp"

namespace helix {

/// [row][run]: BASE runs first, then NEW runs; positive times. Every row has all runs; at least three in all.
struct RepeatedRuns {
  std::size_t base_runs = 0, new_runs = 0;
  std::vector<std::vector<double>> medians_us;
};

/// `level`: chance of a false alarm in one direction, for what would be detectable.
Movements movements_of(const RepeatedRuns& runs, double level);

}  // namespace helix
