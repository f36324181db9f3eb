#include "sweeps/results/noise.hpp"

#include <algorithm>
#include <cmath>

#include "roofline/base/statistics.hpp"

namespace helix {

double relative_error(const Measurement& measurement) {
  if (measurement.samples_us.empty()) return measurement.ttl_rel_stderr;
  return measurement.ttl_rel_stderr * std::sqrt(static_cast<double>(measurement.samples_us.size()) /
                                                effective_samples(measurement.samples_us));
}

double telling_difference(const ResultRow& a, const ResultRow& b) {
  constexpr double least = 0.005;
  if (!a.measurement || !b.measurement) return least;
  return std::max(least, 2 * std::hypot(relative_error(*a.measurement), relative_error(*b.measurement)));
}

bool within_noise(const ResultRow& a, const ResultRow& b) {
  return std::abs(std::log(token_us(a) / token_us(b))) < telling_difference(a, b);
}

double ttl_us(const ResultRow& row) {
  return row.measurement ? row.measurement->ttl_us : row.prediction->model_ttl_us;
}

double token_us(const ResultRow& row) {
  return row.config.shape.token_us(ttl_us(row));
}

}  // namespace helix
