#include "sweeps/run_permutation.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "roofline/statistics.hpp"

namespace helix {
namespace {

using Series = std::vector<double>;     // a value for each run
using Labelling = std::vector<double>;  // of each run: 0 BASE, 1 NEW

constexpr double most_enumerated = 10'000;

double count_labellings(std::size_t base_runs, std::size_t new_runs) {
  double count = 1;
  for (std::size_t i = 1; i <= new_runs; ++i) {
    count *= static_cast<double>(base_runs + i) / static_cast<double>(i);
  }
  return std::round(count);
}

/// The observed labelling first.
std::vector<Labelling> labellings(std::size_t base_runs, std::size_t new_runs) {
  Labelling labels(base_runs, 0.0);
  labels.resize(base_runs + new_runs, 1.0);
  std::vector<Labelling> all;
  if (count_labellings(base_runs, new_runs) <= most_enumerated) {
    do {
      all.push_back(labels);
    } while (std::ranges::next_permutation(labels).found);  // the observed one is the first in order
    return all;
  }
  std::mt19937_64 random(1);
  for (double drawn = 0; drawn < most_enumerated; ++drawn) {
    all.push_back(labels);
    std::ranges::shuffle(labels, random);
  }
  return all;
}

struct Difference {
  double mean;       // NEW - BASE
  double deviation;  // pooled standard deviation within the sides
};

Difference difference(const Series& series, const Labelling& labels) {
  double sum_base = 0, sum_new = 0, squares = 0, runs_new = 0;
  for (std::size_t r = 0; r < series.size(); ++r) {
    sum_new += labels[r] * series[r];
    sum_base += (1.0 - labels[r]) * series[r];
    squares += series[r] * series[r];
    runs_new += labels[r];
  }
  const auto runs = static_cast<double>(series.size());
  const double runs_base = runs - runs_new;
  const double within = squares - sum_new * sum_new / runs_new - sum_base * sum_base / runs_base;
  const double freedom = std::max(1.0, runs - 2.0);
  return {sum_new / runs_new - sum_base / runs_base, std::sqrt(std::max(0.0, within) / freedom)};
}

/// Statistics of all rows under one labelling.
Series statistics(const std::vector<Series>& rows, const Labelling& labels) {
  Series means, deviations;
  for (const Series& row : rows) {
    const Difference d = difference(row, labels);
    means.push_back(d.mean);
    deviations.push_back(d.deviation);
  }
  const double typical = median(deviations);
  for (std::size_t j = 0; j < rows.size(); ++j) {
    const double scale = deviations[j] + typical;
    means[j] = scale > 0 ? means[j] / scale : means[j] * std::numeric_limits<double>::max();
  }
  return means;
}

std::vector<Movement> permutation_test(const std::vector<Series>& rows,
                                       const std::vector<Labelling>& labellings) {
  const Series observed = statistics(rows, labellings.front());
  std::vector<Movement> movements(rows.size());
  std::vector<std::size_t> as_slow(rows.size(), 0), as_fast(rows.size(), 0);
  // Equal statistics differ by how their sums were rounded.
  const auto reaches = [](double x, double of) { return x >= of - 1e-9 * std::fabs(of); };
  for (const Labelling& labels : labellings) {
    const Series permuted = statistics(rows, labels);
    const auto [fastest, slowest] = std::ranges::minmax(permuted);
    for (std::size_t j = 0; j < rows.size(); ++j) {
      as_slow[j] += reaches(slowest, observed[j]);
      as_fast[j] += reaches(-fastest, -observed[j]);
    }
  }
  const auto count = static_cast<double>(labellings.size());
  for (std::size_t j = 0; j < rows.size(); ++j) {
    movements[j] = {difference(rows[j], labellings.front()).mean, static_cast<double>(as_slow[j]) / count,
                    static_cast<double>(as_fast[j]) / count};
  }
  return movements;
}

}  // namespace

double smallest_p(std::size_t base_runs, std::size_t new_runs) {
  return 1.0 / std::min(most_enumerated, count_labellings(base_runs, new_runs));
}

RunMovements run_movements(const RepeatedRuns& runs) {
  std::vector<Series> rows;
  for (const Series& medians : runs.medians_us) {
    Series row;
    for (const double us : medians) row.push_back(std::log(us));
    const double centre = median(row);
    for (double& x : row) x -= centre;
    rows.push_back(std::move(row));
  }
  Series common(runs.base_runs + runs.new_runs, 0.0);
  if (rows.empty()) return {};
  for (std::size_t r = 0; r < common.size(); ++r) {
    Series of_run;
    for (const Series& row : rows) of_run.push_back(row[r]);
    common[r] = median(of_run);
    for (Series& row : rows) row[r] -= common[r];
  }
  const std::vector<Labelling> all = labellings(runs.base_runs, runs.new_runs);
  return {permutation_test({common}, all).front(), permutation_test(rows, all)};
}

}  // namespace helix
