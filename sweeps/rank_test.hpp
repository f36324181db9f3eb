// Whether two series of samples differ: the Mann-Whitney U test, and Holm's correction for testing many rows.
//
// Sources: H. B. Mann, D. R. Whitney, "On a Test of Whether one of Two Random Variables is Stochastically
// Larger than the Other", Ann. Math. Statist. 18 (1947) 50-60: U and the recurrence of its exact
// distribution. E. L. Lehmann, "Nonparametrics" (1975), 1.2 and 1.4: normal approximation with continuity
// correction and the variance under ties. S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
// Scand. J. Statist. 6 (1979) 65-70.
#pragma once

#include <span>
#include <vector>

namespace helix {

/// Two-sided p-value of "both series come from one distribution". Exact for series without ties whose lengths
/// have a product of at most 400 (20 by 20), the normal approximation with tie and continuity correction
/// otherwise. Neither series is empty.
double mann_whitney_p(std::span<const double> a, std::span<const double> b);

/// Adjusted p-values in the order given: rejecting those up to alpha keeps the chance of any false rejection
/// among all of them at most alpha, however the tests depend on each other.
std::vector<double> holm_adjusted(std::span<const double> p_values);

}  // namespace helix
