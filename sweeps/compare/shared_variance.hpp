// What the variances of many rows, each known from a few runs only, say about each other: a row's variance is
// taken as one drawn from a distribution that all rows share, whose parameters are estimated from them.
//
// Source: G. K. Smyth, "Linear Models and Empirical Bayes Methods for Assessing Differential Expression in
// Microarray Experiments", Stat. Appl. Genet. Mol. Biol. 3 (2004) 3: moderated t, section 6.2 (estimation).
#pragma once

#include <span>

namespace helix {

/// The prior: a typical variance, and how many degrees of freedom it is worth beside a row's own.
/// Infinite: the rows' variances do not differ by more than chance explains. 0: they have nothing to do
/// with each other.
struct SharedVariance {
  double variance = 0, freedom = 0;

  /// A row's variance in the light of the others' (Smyth's s tilde squared).
  double moderated(double own, double own_freedom) const;
};

/// From sample variances of `freedom` degrees of freedom each, all positive. Of fewer than four rows nothing
/// is shared.
SharedVariance shared_variance(std::span<const double> variances, double freedom);

}  // namespace helix
