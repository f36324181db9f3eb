// The 16-bit brain float as a storage type: the upper half of an IEEE fp32. (constexpr functions are also
// what CUDA kernels may call.)
#pragma once

#include <bit>
#include <cstdint>

namespace helix {

struct BF16 {
  std::uint16_t bits = 0;
};

constexpr float to_float(BF16 x) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(x.bits) << 16);
}

/// Round to nearest, ties to even; NaN stays NaN.
constexpr BF16 to_bf16(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

}  // namespace helix
