#include "sweeps/compare/student_t.hpp"

#include <cmath>
#include <initializer_list>

namespace helix {
namespace {

/// The continued fraction of the incomplete beta function, by Lentz's method.
double beta_fraction(double a, double b, double x) {
  constexpr int most_terms = 500;
  const auto away_from_zero = [](double v) { return std::fabs(v) < 1e-300 ? 1e-300 : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), value = d;
  for (int m = 1; m <= most_terms; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    for (const double term : {even, odd}) {
      d = 1 / away_from_zero(1 + term * d);
      c = away_from_zero(1 + term / c);
      value *= c * d;
    }
    if (std::fabs(c * d - 1) < 1e-15) break;
  }
  return value;
}

/// I_x(a, b).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  // The fraction converges fast on this side of the mean; the other one is its mirror image.
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

}  // namespace

double student_t_tail(double t, double freedom) {
  constexpr double as_good_as_normal = 1e6;
  if (t < 0) return 1 - student_t_tail(-t, freedom);
  if (std::isinf(t)) return 0;
  if (freedom > as_good_as_normal) return 0.5 * std::erfc(t / std::sqrt(2.0));
  return 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
}

double student_t_quantile(double p, double freedom) {
  double low = 0, high = 1;
  while (student_t_tail(high, freedom) > p && std::isfinite(high)) high *= 2;
  for (int i = 0; i < 100; ++i) {
    const double middle = 0.5 * (low + high);
    (student_t_tail(middle, freedom) > p ? low : high) = middle;
  }
  return high;
}

double digamma(double x) {
  double sum = 0;
  for (; x < 8; ++x) sum -= 1 / x;
  const double y = 1 / (x * x);
  return sum + std::log(x) - 0.5 / x - y * (1 / 12. - y * (1 / 120. - y * (1 / 252. - y / 240.)));
}

double trigamma(double x) {
  double sum = 0;
  for (; x < 8; ++x) sum += 1 / (x * x);
  const double y = 1 / (x * x);
  return sum + 1 / x + y / 2 + y / x * (1 / 6. - y * (1 / 30. - y * (1 / 42. - y / 30.)));
}

}  // namespace helix
