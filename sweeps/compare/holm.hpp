// Many tests at once: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scand. J. Statist.
// 6 (1979) 65-70.
#pragma once

#include <span>
#include <vector>

namespace helix {

/// Adjusted p-values in the order given: rejecting those up to alpha keeps the chance of any false rejection
/// among all of them at most alpha, however the tests depend on each other.
std::vector<double> holm_adjusted(std::span<const double> p_values);

}  // namespace helix
