// NVFP4 as a storage type: e2m1 values (0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign) in blocks of 16 that share an
// e4m3 scale. What is stored of x is e2m1(x / scale) * scale with scale = e4m3(largest |x| of the block / 6),
// which bf16 holds exactly.
#pragma once

#include <cstdint>

#include "kernels/ops/fp8.hpp"

namespace helix {

inline constexpr int kNvfp4Block = 16;

/// The low four bits hold the value: sign, two bits of exponent, one of mantissa.
constexpr float e2m1_to_float(unsigned bits) {
  constexpr float magnitude[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  return (bits & 8u) != 0 ? -magnitude[bits & 7u] : magnitude[bits & 7u];
}

/// Round to nearest, ties to the even mantissa, saturating at +-6. (No NaN: it becomes 6.)
constexpr unsigned to_e2m1(float x) {
  const unsigned sign = x < 0.0f ? 8u : 0u;
  const float a = x < 0.0f ? -x : x;
  if (a <= 0.25f) return sign;
  if (a < 0.75f) return sign | 1u;
  if (a <= 1.25f) return sign | 2u;
  if (a < 1.75f) return sign | 3u;
  if (a <= 2.5f) return sign | 4u;
  if (a < 3.5f) return sign | 5u;
  if (a <= 5.0f) return sign | 6u;
  return sign | 7u;
}

/// The value of to_e2m1(x), without a branch, so that loops over it are vectorised.
constexpr float rounded_to_e2m1(float x) {
  const float a = x < 0.0f ? -x : x;
  const int halves = (a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + 2 * (a > 2.5f) +
                     2 * (a >= 3.5f) + 4 * (a > 5.0f);
  const float magnitude = 0.5f * static_cast<float>(halves);
  return x < 0.0f ? -magnitude : magnitude;
}

/// The scale of a block whose largest magnitude this is.
constexpr FP8 nvfp4_scale(float largest) {
  return to_fp8(largest / 6.0f);
}
/// x in units of the scale.
constexpr unsigned to_nvfp4(float x, FP8 scale) {
  const float s = to_float(scale);
  return s == 0.0f ? 0u : to_e2m1(x / s);
}

}  // namespace helix
