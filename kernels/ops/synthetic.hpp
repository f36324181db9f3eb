// Seeded random numbers by position: any rank can make any part of a tensor, and every sharding of one seed
// sees the same tensor. The fp64 reference reads the very same values.
//
// value(key, row, col) = scale * (2 * h + 1) / 256 with h in [-128, 127] the top byte of a 32-bit mix of the
// position: uniform on 256 levels, zero mean, exact in bf16 when the scale is a power of two.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"

namespace helix::synthetic {

/// Low-bias 32-bit mixer (constants: C. Wellons, "hash-prospector").
constexpr std::uint32_t mix(std::uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  x ^= x >> 16;
  return x;
}

/// Key of a tensor: seed, which tensor it is, and up to two indices (layer, expert, request, head ...).
constexpr std::uint64_t tensor_key(std::uint64_t seed, std::uint32_t tensor, std::uint32_t a = 0,
                                   std::uint32_t b = 0) {
  std::uint64_t k = seed * 0x9e3779b97f4a7c15ull + tensor;
  for (std::uint32_t part : {a, b}) {
    k = (k ^ (k >> 29)) * 0xbf58476d1ce4e5b9ull + part;
  }
  k = (k ^ (k >> 32)) * 0x94d049bb133111ebull;
  return k ^ (k >> 31);
}

/// Key of one row of a tensor; rows may be numbered past 2^32.
constexpr std::uint32_t row_key(std::uint64_t key, std::int64_t row) {
  const auto r = static_cast<std::uint64_t>(row);
  const std::uint64_t k = (key + r * 0x9e3779b97f4a7c15ull);
  return mix(static_cast<std::uint32_t>(k >> 32) ^ mix(static_cast<std::uint32_t>(k)));
}

/// unit_value(row, col + n) = unit_value(row + n * column_step, col).
inline constexpr std::uint32_t column_step = 0x9e3779b9u;

/// In (-1, 1): odd multiples of 1/256.
constexpr float unit_value(std::uint32_t row, std::uint32_t col) {
  const auto h = static_cast<std::int32_t>(mix(row + col * column_step)) >> 24;
  return static_cast<float>(2 * h + 1) * (1.0f / 256.0f);
}

/// What fp8 weights hold of a unit_value: three mantissa bits, nearest, ties to even. Times 256 it is an e4m3
/// of the normal range. Without a branch, so that loops over it are vectorised.
inline float fp8_unit_value(float unit) {
  const auto u = std::bit_cast<std::uint32_t>(unit);
  return std::bit_cast<float>((u + 0x7ffffu + ((u >> 20) & 1u)) & 0xfff00000u);
}

/// The power of two nearest to the scale that gives rows of `fan_in` values unit-variance products:
/// uniform values on (-1, 1) have variance 1/3, so sqrt(3 / fan_in).
inline float weight_scale(std::int64_t fan_in) {
  return std::exp2(std::nearbyint(0.5f * std::log2(3.0f / static_cast<float>(fan_in))));
}

/// What a KV cache of the given type holds of a value.
constexpr float stored_bf16(float x) {
  return to_float(to_bf16(x));
}
constexpr float stored_fp8(float x) {
  return to_float(to_fp8(x));
}

}  // namespace helix::synthetic
