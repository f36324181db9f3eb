// Comparisons that a NaN cannot pass. `diff > tolerance` is false for NaN, so none of these is
// written that way.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops/bf16.hpp"

namespace helix::testing {

/// Of one rounding to bf16 after fp32 arithmetic, whose own is far less.
inline constexpr double kBf16 = 0x1.01p-8;

inline double as_double(double x) {
  return x;
}
inline double as_double(float x) {
  return static_cast<double>(x);
}
inline double as_double(BF16 x) {
  return static_cast<double>(to_float(x));
}

/// ||actual - expected|| / ||expected||; +inf when the lengths differ or where only one of two values is
/// finite, or they are different infinities. Both all zero: 0. NaN in both places counts as equal.
template <typename A, typename B>
double relative_error(const std::vector<A>& actual, const std::vector<B>& expected) {
  constexpr double mismatch = std::numeric_limits<double>::infinity();
  if (actual.size() != expected.size()) return mismatch;
  double difference = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = as_double(actual[i]), e = as_double(expected[i]);
    if (std::isfinite(a) && std::isfinite(e)) {
      difference += (a - e) * (a - e);
      norm += e * e;
    } else if (!(std::isnan(a) && std::isnan(e)) && a != e) {
      return mismatch;
    }
  }
  if (difference == 0.0) return 0.0;
  return norm == 0.0 ? mismatch : std::sqrt(difference / norm);
}

/// Empty if |actual - expected| <= absolute + relative * |expected| everywhere (NaN only beside NaN,
/// infinities only beside the same); else says where it is not.
template <typename A, typename B>
std::string first_difference(const std::vector<A>& actual, const std::vector<B>& expected, double relative,
                             double absolute = 0.0) {
  if (actual.size() != expected.size()) {
    return fmt::format("sizes {} and {}", actual.size(), expected.size());
  }
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double a = as_double(actual[i]), e = as_double(expected[i]);
    const bool close = std::fabs(a - e) <= absolute + relative * std::fabs(e) && std::isfinite(e);
    if (close || a == e || (std::isnan(a) && std::isnan(e))) continue;
    return fmt::format("[{}]: {}, expected {}", i, a, e);
  }
  return {};
}

/// Bits, so that NaN payloads and signed zeros count too.
inline std::vector<std::uint32_t> bits_of(std::span<const float> values) {
  std::vector<std::uint32_t> bits;
  for (const float v : values) bits.push_back(std::bit_cast<std::uint32_t>(v));
  return bits;
}

inline BF16 bf16_nan() {
  return {0x7fc1};
}

}  // namespace helix::testing
