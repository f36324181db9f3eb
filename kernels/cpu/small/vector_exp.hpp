// An exponential that the compiler vectorises in plain loops; the library's is not without -ffast-math.
// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2, exp(r) by its Taylor polynomial of degree 6,
// whose relative error 1.2e-7 is the order of one fp32 rounding.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

namespace helix::cpu {

/// exp(-|x|), not below exp(-87) where fp32 stops being normal. A NaN counts as large.
inline float exp_minus_abs(float x) {
  // Minimum of the bit patterns, which order non-negative floats: a float comparison would not be vectorised.
  constexpr auto limit = std::bit_cast<std::uint32_t>(87.0f);
  const float a = std::bit_cast<float>(std::min(std::bit_cast<std::uint32_t>(x) & 0x7fffffffu, limit));
  constexpr float to_integer = 0x1.8p23f;  // adding it leaves the rounded integer in the low mantissa bits
  const float shifted = a * -1.44269504f + to_integer;
  const float n = shifted - to_integer;
  const float r = (-a - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts (Cody and Waite)
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) + 127u) << 23;
  return p * std::bit_cast<float>(power);
}

/// 1 / (1 + exp(-x)); of a NaN 0 or 1. With e = exp(-|x|), which cannot overflow: 1 / (1 + e) for x >= 0,
/// else e / (1 + e).
inline float sigmoid_without_nan(float x) {
  const float e = exp_minus_abs(x);
  return ((std::bit_cast<std::uint32_t>(x) >> 31) != 0 ? e : 1.0f) / (1.0f + e);
}

}  // namespace helix::cpu
