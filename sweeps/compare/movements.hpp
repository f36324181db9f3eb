// Which rows moved from BASE to NEW, and by how much, beside what moved all rows of a run alike. What judges
// one run a side (run_pair.hpp) and several (repeated_runs.hpp) has this form in common.
#pragma once

#include <cstddef>
#include <vector>

namespace helix {

/// A shift is the logarithm of NEW / BASE. Each p-value is one-sided, and of a row Holm-corrected for the
/// number of rows.
struct Movement {
  double shift = 0;
  double p_slower = 1, p_faster = 1;
  double detectable = 0;  // the shift that would be found in 9 of 10 such comparisons
};

struct Movements {
  /// Of all rows alike. With too few rows to tell it from a row's own, nothing moves alike.
  Movement common;
  std::vector<Movement> own;  // of each row beside that
};

/// The share of the chance of a false alarm that goes to rows of their own and to all rows alike. (A fifth is
/// left: noise that rows do not share is known worse than t tests take it for.)
constexpr double own_share = 0.6, common_share = 0.2;

/// Fills in the p-values from the rows' t statistics, each with its degrees of freedom.
struct Statistic {
  double t = 0, freedom = 1;
};
void set_p_values(std::vector<Movement>& movements, const std::vector<Statistic>& statistics);

}  // namespace helix
