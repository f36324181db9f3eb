#include "sweeps/compare/repeated_runs.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <span>

#include "roofline/base/statistics.hpp"
#include "sweeps/compare/shared_variance.hpp"
#include "sweeps/compare/student_t.hpp"

namespace helix {
namespace {

constexpr std::size_t least_rows_with_a_common_part = 4;
constexpr double least_deviation = 1e-4;  // what a clock can tell of a row

using Series = std::vector<double>;  // a value for each run

/// One row's values, or the common ones, of the runs of both sides.
struct Sides {
  std::span<const double> base, head;
};

Sides split(const Series& series, std::size_t base_runs) {
  const std::span<const double> all = series;
  return {all.first(base_runs), all.subspan(base_runs)};
}

double mean(std::span<const double> values) {
  double sum = 0;
  for (const double x : values) sum += x;
  return sum / static_cast<double>(values.size());
}

double shift(const Sides& sides) {
  return mean(sides.head) - mean(sides.base);
}

/// The same of the faster half of each side's runs.
double shift_of_faster_half(const Sides& sides) {
  const auto half = [](std::span<const double> side) {
    return mean(std::span<const double>(sorted(side)).first((side.size() + 1) / 2));
  };
  return half(sides.head) - half(sides.base);
}

/// Within the sides, with runs - 2 degrees of freedom.
double pooled_variance(const Sides& sides) {
  double squares = 0;
  for (const std::span<const double> side : {sides.base, sides.head}) {
    const double centre = mean(side);
    for (const double x : side) squares += (x - centre) * (x - centre);
  }
  const auto runs = static_cast<double>(sides.base.size() + sides.head.size());
  return std::max(squares / (runs - 2), least_deviation * least_deviation);
}

/// Of a difference of means, as a multiple of one run's variance.
double variance_of_shift(const RepeatedRuns& runs) {
  return 1.0 / static_cast<double>(runs.base_runs) + 1.0 / static_cast<double>(runs.new_runs);
}

/// Each value's distance from the median of its side.
Series distances(const Series& row, std::size_t base_runs) {
  const Sides sides = split(row, base_runs);
  Series all;
  for (const std::span<const double> side : {sides.base, sides.head}) {
    const double centre = median(side);
    for (const double x : side) all.push_back(x - centre);
  }
  return all;
}

/// Median absolute distance as a standard deviation of normal values; of few values, whose own median is what
/// they are distant from, it is a seventh too small (simulated, five a side).
double robust_deviation(const Series& all) {
  Series absolute;
  for (const double x : all) absolute.push_back(std::fabs(x));
  return 1.4826 * 1.15 * median(absolute);
}

/// Draws rare disturbances in. False if there are none, or too many to be rare: rows are as they were.
bool draw_in(std::vector<Series>& rows, const RepeatedRuns& runs) {
  constexpr std::size_t least_runs = 4;  // a side, to say which of them was disturbed
  constexpr double reach = 5, most_rare = 0.12;
  if (rows.size() < least_rows_with_a_common_part) return false;
  if (std::min(runs.base_runs, runs.new_runs) < least_runs) return false;
  std::vector<Series> all;
  Series pooled;
  for (const Series& row : rows) {
    all.push_back(distances(row, runs.base_runs));
    pooled.insert(pooled.end(), all.back().begin(), all.back().end());
  }
  const double of_all = robust_deviation(pooled);
  std::vector<Series> drawn = rows;
  std::size_t disturbed = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double limit = reach * std::hypot(robust_deviation(all[i]), of_all) / std::sqrt(2.0);
    for (std::size_t r = 0; r < rows[i].size(); ++r) {
      const double excess = all[i][r] - std::clamp(all[i][r], -limit, limit);
      disturbed += excess != 0;
      drawn[i][r] -= excess;
    }
  }
  if (static_cast<double>(disturbed) > most_rare * static_cast<double>(pooled.size())) return false;
  rows = std::move(drawn);
  return disturbed > 0;
}

std::vector<Movement> own_movements(const std::vector<Series>& rows, const RepeatedRuns& runs, double level) {
  std::vector<Series> settled = rows;
  const bool disturbed = draw_in(settled, runs);
  const auto own_freedom = static_cast<double>(runs.base_runs + runs.new_runs - 2);
  Series variances;
  for (const Series& row : settled) variances.push_back(pooled_variance(split(row, runs.base_runs)));
  const SharedVariance prior = shared_variance(variances, own_freedom);
  const auto count = static_cast<double>(rows.size());
  // All rows together know no more than all their runs, less those that the common part took.
  const double freedom = std::min(prior.freedom + own_freedom, std::max(1.0, count - 1) * own_freedom);

  const double found = student_t_quantile(level / count, freedom) + student_t_quantile(0.1, freedom);

  std::vector<Movement> movements(rows.size());
  std::vector<Statistic> statistics;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    movements[i].shift = shift(split(settled[i], runs.base_runs));
    const double deviation = std::sqrt(prior.moderated(variances[i], own_freedom) * variance_of_shift(runs));
    movements[i].detectable = found * deviation;
    double t = movements[i].shift / deviation;
    if (disturbed && shift_of_faster_half(split(rows[i], runs.base_runs)) / movements[i].shift < 0.5) t = 0;
    statistics.push_back({t, freedom});
  }
  set_p_values(movements, statistics);
  return movements;
}

/// The share of labellings, dealt to the runs at random, with a shift at least as large; 0 if no other has.
double permutation_p(const Series& series, std::size_t base_runs) {
  constexpr double most_enumerated = 10'000;
  const std::size_t new_runs = series.size() - base_runs;
  double labellings = 1;
  for (std::size_t i = 1; i <= new_runs; ++i) {
    labellings *= static_cast<double>(base_runs + i) / static_cast<double>(i);
  }
  const bool enumerate = std::round(labellings) <= most_enumerated;
  const double tried = enumerate ? std::round(labellings) : most_enumerated;
  // With sides of fixed sizes the sum of NEW's values grows with the shift.
  std::vector<int> is_new(base_runs, 0);
  is_new.resize(series.size(), 1);  // the observed labelling is the first in order
  std::mt19937_64 random(1);
  double observed = 0;
  for (std::size_t r = base_runs; r < series.size(); ++r) observed += series[r];
  double as_large = 0;
  for (double done = 0; done < tried; ++done) {
    double sum = 0;
    for (std::size_t r = 0; r < series.size(); ++r) sum += is_new[r] * series[r];
    as_large += sum >= observed - 1e-12;
    if (enumerate) {
      std::ranges::next_permutation(is_new);
    } else {
      std::ranges::shuffle(is_new, random);
    }
  }
  return as_large > 1 ? as_large / tried : 0.0;
}

Movement common_movement(Series series, const RepeatedRuns& runs, double level) {
  const Sides sides = split(series, runs.base_runs);
  const auto freedom = static_cast<double>(series.size() - 2);
  const double deviation = std::sqrt(pooled_variance(sides) * variance_of_shift(runs));
  Movement movement{.shift = shift(sides)};
  const double t = movement.shift / deviation;
  movement.detectable = (student_t_quantile(level, freedom) + student_t_quantile(0.1, freedom)) * deviation;
  movement.p_slower = student_t_tail(t, freedom);
  movement.p_faster = student_t_tail(-t, freedom);
  if (movement.shift < 0) {
    for (double& x : series) x = -x;
  }
  double& p = movement.shift < 0 ? movement.p_faster : movement.p_slower;
  p = std::max(p, permutation_p(series, runs.base_runs));
  return movement;
}

}  // namespace

Movements movements_of(const RepeatedRuns& runs, double level) {
  std::vector<Series> rows;
  for (const Series& medians : runs.medians_us) {
    Series row;
    for (const double us : medians) row.push_back(std::log(us));
    const double centre = median(row);
    for (double& x : row) x -= centre;
    rows.push_back(std::move(row));
  }
  Movements movements;
  if (rows.empty()) return movements;
  if (rows.size() >= least_rows_with_a_common_part) {
    Series common;
    for (std::size_t r = 0; r < runs.base_runs + runs.new_runs; ++r) {
      Series of_run;
      for (const Series& row : rows) of_run.push_back(row[r]);
      common.push_back(median(of_run));
      for (Series& row : rows) row[r] -= common[r];
    }
    movements.common = common_movement(std::move(common), runs, common_share * level);
  }
  movements.own = own_movements(rows, runs, own_share * level);
  return movements;
}

}  // namespace helix
