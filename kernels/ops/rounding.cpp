#include "kernels/ops/rounding.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/ops/simd_clones.hpp"

namespace helix {
namespace {

/// As to_fp8, without a branch.
inline std::uint32_t fp8_bits(float x) {
  const std::uint32_t sign = std::bit_cast<std::uint32_t>(x) >> 24 & 0x80u;
  const float a = std::fabs(x) < 448.0f ? std::fabs(x) : 448.0f;
  const std::uint32_t m = std::bit_cast<std::uint32_t>(a);
  const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(a + 0x1p14f) & 0xfu;
  const std::uint32_t normal = (m + 0x7ffffu + (m >> 20 & 1u) - (120u << 23)) >> 20;
  const std::uint32_t magnitude = a < 0x1p-6f ? subnormal : normal;
  return sign | (std::bit_cast<std::uint32_t>(x) << 1 > 0xff000000u ? 0x7fu : magnitude);
}

}  // namespace

HELIX_SIMD_CLONES void round_values(const float* x, std::int64_t count, float factor, BF16* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i] = to_bf16(x[i] * factor);
}

HELIX_SIMD_CLONES void round_values(const float* x, std::int64_t count, float factor, FP8* out) {
  for (std::int64_t i = 0; i < count; ++i) out[i].bits = static_cast<std::uint8_t>(fp8_bits(x[i] * factor));
}

HELIX_SIMD_CLONES float largest_magnitude(const float* x, std::int64_t count) {
  float largest = 0.0f;
#pragma omp simd reduction(max : largest)
  for (std::int64_t i = 0; i < count; ++i) {
    const float a = std::fabs(x[i]);
    largest = a > largest ? a : largest;
  }
  return largest;
}

}  // namespace helix
