// Robust statistics of timing samples.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

namespace helix {

inline std::vector<double> sorted(std::span<const double> samples) {
  std::vector<double> ordered(samples.begin(), samples.end());
  std::ranges::sort(ordered);
  return ordered;
}

/// The value below which the given fraction of the samples lies, linear between neighbours (Hyndman-Fan type
/// 7). `ordered` ascends and is not empty.
inline double quantile(std::span<const double> ordered, double fraction) {
  const double position = fraction * static_cast<double>(ordered.size() - 1);
  const auto below = static_cast<std::size_t>(position);
  const auto above = std::min(below + 1, ordered.size() - 1);
  return std::lerp(ordered[below], ordered[above], position - static_cast<double>(below));
}

inline double median_of_sorted(std::span<const double> ordered) {
  return quantile(ordered, 0.5);
}

inline double median(std::span<const double> samples) {
  return median_of_sorted(sorted(samples));
}

/// Standard error of the median, after McKean and Schrader (1984): the distance of two order statistics that
/// enclose the median at 99 %, divided by the 2 z that it would be in standard errors. It assumes no shape of
/// the distribution: outliers of the scheduler do not move it, and two modes widen it to the gap between
/// them. With fewer than six samples there are no such order statistics, and the extremes are used.
inline double median_standard_error(std::span<const double> ordered) {
  constexpr double z = 2.5758293035489004;  // normal quantile at 0.995
  const auto n = static_cast<double>(ordered.size());
  const double rank = std::round((n + 1.0) / 2.0 - z * std::sqrt(n / 4.0));  // 1-based
  const auto low = static_cast<std::size_t>(std::max(rank, 1.0)) - 1;
  return (ordered[ordered.size() - 1 - low] - ordered[low]) / (2.0 * z);
}

/// How many independent samples know a mean as well as these: n / (1 + 2 x the sum of the autocorrelations),
/// these summed over pairs as long as a pair is positive (C. J. Geyer, "Practical Markov Chain Monte Carlo",
/// Statist. Sci. 7 (1992) 473). Between 1 and n.
double effective_samples(std::span<const double> samples);

}  // namespace helix
