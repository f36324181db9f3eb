#include "sweeps/compare/shared_variance.hpp"

#include <cmath>
#include <limits>
#include <numeric>

#include "sweeps/compare/student_t.hpp"

namespace helix {
namespace {

/// The x with trigamma(x) = y, by Newton's method on 1 / trigamma, which is nearly
/// straight (Smyth, appendix).
double inverse_trigamma(double y) {
  double x = 0.5 + 1 / y;
  for (int i = 0; i < 50; ++i) {
    constexpr double h = 1e-4;
    const double value = trigamma(x);
    const double slope = (trigamma(x * (1 + h)) - trigamma(x * (1 - h))) / (2 * h * x);
    const double step = value * (1 - value / y) / slope;
    x += step;
    if (std::fabs(step) < 1e-8 * x) break;
  }
  return x;
}

}  // namespace

double SharedVariance::moderated(double own, double own_freedom) const {
  if (std::isinf(freedom)) return variance;
  return (freedom * variance + own_freedom * own) / (freedom + own_freedom);
}

SharedVariance shared_variance(std::span<const double> variances, double freedom) {
  constexpr std::size_t least_rows = 4;
  if (variances.size() < least_rows) return {};
  const auto rows = static_cast<double>(variances.size());
  const double of_chance = trigamma(freedom / 2);  // variance of the log of one sample variance
  double mean = 0, squares = 0;
  for (const double s2 : variances) {
    mean += (std::log(s2) - digamma(freedom / 2) + std::log(freedom / 2)) / rows;
  }
  for (const double s2 : variances) {
    const double e = std::log(s2) - digamma(freedom / 2) + std::log(freedom / 2) - mean;
    squares += e * e / (rows - 1);
  }
  // Rows have variances of their own if these scatter by two standard errors more than by chance.
  // (Smyth takes any excess, which half of all equal rows have; that costs them some power and
  // saves others nothing.)
  const double excess = squares - of_chance;
  if (excess <= 2 * of_chance * std::sqrt(2 / (rows - 1))) {
    return {std::accumulate(variances.begin(), variances.end(), 0.0) / rows,
            std::numeric_limits<double>::infinity()};
  }
  const double prior_freedom = 2 * inverse_trigamma(excess);
  return {std::exp(mean + digamma(prior_freedom / 2) - std::log(prior_freedom / 2)), prior_freedom};
}

}  // namespace helix
