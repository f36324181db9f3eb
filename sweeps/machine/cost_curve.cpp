#include "sweeps/machine/cost_curve.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace helix {

KernelRate fit(KernelFamily family, DType dtype, double fixed_us, std::span<const Probe> probes) {
  const auto beyond_fixed = [&](const Probe& p) { return std::max(p.us - fixed_us, 0.1 * p.us); };
  double bytes_per_us = 0, flops_per_us = 0;
  for (const Probe& p : probes) {
    bytes_per_us = std::max(bytes_per_us, p.bytes / beyond_fixed(p));
    flops_per_us = std::max(flops_per_us, p.flops / beyond_fixed(p));
  }
  KernelRate best{.family = family, .dtype = dtype, .fixed_us = fixed_us};
  constexpr double clearly = 0.03;  // less than that may be noise, and the norm would change with it
  double least_error = std::numeric_limits<double>::infinity();
  for (double norm = 16; norm >= 1; norm /= 2) {
    double too_high = -std::numeric_limits<double>::infinity(), too_low = -too_high;  // logarithms
    for (const Probe& p : probes) {
      const double curve =
          std::pow(std::pow(p.bytes / bytes_per_us, norm) + std::pow(p.flops / flops_per_us, norm), 1 / norm);
      const double off = std::log(curve / beyond_fixed(p));
      too_high = std::max(too_high, off);
      too_low = std::min(too_low, off);
    }
    const double error = (too_high - too_low) / 2;
    if (error > least_error - clearly) continue;
    least_error = error;
    const double centred = 1e6 * std::exp((too_high + too_low) / 2);
    best.bytes_per_s = bytes_per_us * centred;
    best.flops_per_s = flops_per_us * centred;
    best.norm = norm;
  }
  return best;
}

}  // namespace helix
