#include "roofline/base/statistics.hpp"

namespace helix {

double effective_samples(std::span<const double> samples) {
  const std::size_t n = samples.size();
  const auto count = static_cast<double>(n);
  double mean = 0, squares = 0;
  for (const double x : samples) mean += x / count;
  for (const double x : samples) squares += (x - mean) * (x - mean);
  if (squares <= 0) return count;
  const auto correlation = [&](std::size_t lag) {
    double sum = 0;
    for (std::size_t i = lag; i < n; ++i) sum += (samples[i] - mean) * (samples[i - lag] - mean);
    return sum / squares;
  };
  double sum = -1;  // lag 0 counts once, and the first pair holds it twice
  for (std::size_t lag = 0; lag + 1 < n; lag += 2) {
    const double pair = correlation(lag) + correlation(lag + 1);
    if (pair <= 0) break;
    sum += 2 * pair;
  }
  return std::clamp(count / std::max(sum, 1.0), 1.0, count);
}

}  // namespace helix
