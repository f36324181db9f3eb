// Whether two sides differ where each was run several times: a permutation test with the run as its unit.
//
// Samples of one run are no independent samples of the program: on a shared machine a whole run, or a row's
// part of it, is in one mode or another (placement of its memory, a neighbour), and all its samples with it.
// A test on pooled samples takes two modes for two programs. So each run counts once, by its median, and the
// only thing assumed is that under "nothing changed" the labels BASE and NEW could have been dealt to the
// runs in any other way (R. A. Fisher, "The Design of Experiments" (1935), ch. 3). Interleaving the runs of
// both sides is what makes that true on a machine whose load drifts.
//
//  - Units: the logarithm of each row's median in each run, less the row's own centre.
//  - The common part of a run is the median over its rows, the own part of a row what is left. A mode that
//  has
//    a whole run moves the common part, so a single row that became slower still stands out.
//  - The statistic of a row is the difference of the sides' means over (s + s0), s being its pooled standard
//    deviation within the sides and s0 the median s of all rows, so that a row that is quiet by chance does
//    not count for much: V. G. Tusher, R. Tibshirani, G. Chu, PNAS 98 (2001) 5116, "relative difference".
//  - Many rows: a row's p-value is the share of labellings in which the largest statistic of any row reaches
//    its own (P. H. Westfall, S. S. Young, "Resampling-Based Multiple Testing" (1993), single-step max T).
//    That holds the chance of any false alarm whatever the rows have to do with each other.
//  - All labellings are used if they are at most 10,000, else as many random ones, the observed one counted
//    among them (B. Phipson, G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9 (2010) 39).
#pragma once

#include <cstddef>
#include <vector>

namespace helix {

/// [row][run]: BASE runs first, then NEW runs; positive times. Every row has all runs.
struct RepeatedRuns {
  std::size_t base_runs = 0, new_runs = 0;
  std::vector<std::vector<double>> medians_us;
};

/// Logarithms of NEW / BASE, and one-sided p-values.
struct Movement {
  double shift = 0;
  double p_slower = 1, p_faster = 1;
};

struct RunMovements {
  Movement common;            // of all rows alike
  std::vector<Movement> own;  // of each row beside that
};

RunMovements run_movements(const RepeatedRuns& runs);

/// The smallest p-value that so many runs can give: 1 / number of labellings.
double smallest_p(std::size_t base_runs, std::size_t new_runs);

}  // namespace helix
