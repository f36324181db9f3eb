#include "sweeps/machine/round_figure.hpp"

#include <algorithm>
#include <cmath>

#include "roofline/base/statistics.hpp"

namespace helix {
namespace {

double pooled_quantile(std::span<const std::vector<double>> rounds, double fraction) {
  std::vector<double> all;
  for (const std::vector<double>& round : rounds) all.insert(all.end(), round.begin(), round.end());
  return quantile(sorted(all), fraction);
}

}  // namespace

Figure figure_of(std::span<const std::vector<double>> rounds, double fraction) {
  const double us = pooled_quantile(rounds, fraction);
  const std::size_t stretches = std::min<std::size_t>(8, rounds.size());
  if (stretches < 2) return {.us = us};
  std::vector<double> of_stretch;
  for (std::size_t i = 0; i < stretches; ++i) {
    const std::size_t begin = i * rounds.size() / stretches, end = (i + 1) * rounds.size() / stretches;
    of_stretch.push_back(pooled_quantile(rounds.subspan(begin, end - begin), fraction));
  }
  const auto n = static_cast<double>(stretches);
  double mean = 0, squares = 0;
  for (const double x : of_stretch) mean += x / n;
  for (const double x : of_stretch) squares += (x - mean) * (x - mean);
  const auto [least, most] = std::ranges::minmax(of_stretch);
  return {.us = us, .spread = (most - least) / us, .rel_stderr = std::sqrt(squares / (n - 1) / n) / us};
}

}  // namespace helix
