// Student's t distribution, and the derivatives of log Gamma that its estimation from variances needs.
//
// Sources: M. Abramowitz, I. A. Stegun, "Handbook of Mathematical Functions" (1964), 6.3 and 6.4 (digamma and
// trigamma: recurrence and asymptotic series), 26.5.8 (the incomplete beta function as a continued fraction)
// and 26.7.1 (Student's t by it).
#pragma once

namespace helix {

/// P(T > t), `freedom` > 0, which may be infinite: the normal distribution.
double student_t_tail(double t, double freedom);
/// The t whose tail is `p`, 0 < p <= 1/2.
double student_t_quantile(double p, double freedom);

/// d log Gamma(x) / dx and its derivative, x > 0.
double digamma(double x);
double trigamma(double x);

}  // namespace helix
