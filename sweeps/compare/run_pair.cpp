#include "sweeps/compare/run_pair.hpp"

#include <algorithm>
#include <cmath>

#include "roofline/base/statistics.hpp"
#include "sweeps/compare/student_t.hpp"

namespace helix {
namespace {

constexpr std::size_t least_rows_with_a_scatter = 8;

struct Side {
  double log_median, variance;  // of the logarithm
};

Side side(std::span<const double> samples) {
  const std::vector<double> ordered = sorted(samples);
  const double centre = median_of_sorted(ordered);
  const double error = median_standard_error(ordered) / centre;
  const auto n = static_cast<double>(samples.size());
  constexpr double least_error = 1e-5;  // what a clock can tell
  return {std::log(centre),
          std::max(error * error * n / effective_samples(samples), least_error * least_error)};
}

/// Qn: the quarter of all pairwise distances, as a standard deviation of normal values. Half of the values
/// may be anywhere.
double scatter(std::span<const double> values) {
  std::vector<double> distances;
  for (std::size_t i = 0; i < values.size(); ++i) {
    for (std::size_t j = i + 1; j < values.size(); ++j) distances.push_back(std::fabs(values[i] - values[j]));
  }
  const std::size_t half = values.size() / 2 + 1, nearest = half * (half - 1) / 2;
  std::ranges::nth_element(distances, distances.begin() + static_cast<std::ptrdiff_t>(nearest - 1));
  const auto n = static_cast<double>(values.size());
  // Consistent for normal values, with the correction for small n of the source's section 4.
  const double small = values.size() % 2 == 1 ? n / (n + 1.4) : n / (n + 3.8);
  return 2.2219 * small * distances[nearest - 1];
}

}  // namespace

Movements movements_of(std::span<const SampledRow> rows, double run_noise, double level) {
  const std::size_t n = rows.size();
  Movements movements{{}, std::vector<Movement>(n)};
  if (n == 0) return movements;
  const auto count = static_cast<double>(n);
  std::vector<double> shifts, variances;
  for (const SampledRow& row : rows) {
    const Side base = side(row.base_us), head = side(row.new_us);
    shifts.push_back(head.log_median - base.log_median);
    variances.push_back(base.variance + head.variance);
  }
  const bool many = n >= least_rows_with_a_scatter;
  const double common = many ? median(shifts) : 0.0;
  const double between = many ? scatter(shifts) : 0.0;
  const double typical_variance = median(variances);
  const double least_shift = std::log1p(run_noise);
  // Qn has 82 % of the efficiency of a standard deviation. Eight degrees at most: rows are not equally noisy.
  const double freedom = many ? std::min(8.0, 0.82 * (count - 1)) : 1e9;
  const double found =
      student_t_quantile(own_share * level / count, freedom) + student_t_quantile(0.1, freedom);

  std::vector<Statistic> statistics;
  for (std::size_t i = 0; i < n; ++i) {
    // What the scatter does not know is that this row is noisier than others.
    const double variance =
        std::max(variances[i], between * between + std::max(0.0, variances[i] - typical_variance));
    Movement& own = movements.own[i];
    own.shift = shifts[i] - common;
    own.detectable = found * std::sqrt(variance);
    if (!many) own.detectable = std::max(own.detectable, least_shift);
    const bool within_noise = !many && std::fabs(own.shift) <= least_shift;
    statistics.push_back({within_noise ? 0.0 : own.shift / std::sqrt(variance), freedom});
  }
  set_p_values(movements.own, statistics);

  if (!many) return movements;
  // The median of n shifts, each as uncertain as the rows' scatter and their samples say.
  const double variance = std::max(typical_variance, between * between) * 1.57 / count;
  movements.common.shift = common;
  movements.common.detectable = least_shift + student_t_quantile(0.1, freedom) * std::sqrt(variance);
  if (std::fabs(common) > least_shift) {
    movements.common.p_slower = student_t_tail(common / std::sqrt(variance), freedom);
    movements.common.p_faster = student_t_tail(-common / std::sqrt(variance), freedom);
  }
  return movements;
}

}  // namespace helix
