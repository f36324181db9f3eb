// fp8 e4m3 ("e4m3fn": no infinities, 0x7f and 0xff are NaN, largest finite value 448) as a storage type.
#pragma once

#include <bit>
#include <cstdint>

namespace helix {

struct FP8 {
  std::uint8_t bits = 0;
};

constexpr float to_float(FP8 x) {
  const std::uint32_t sign = static_cast<std::uint32_t>(x.bits & 0x80u) << 24;
  const std::uint32_t magnitude = x.bits & 0x7fu;
  if (magnitude == 0x7fu) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (magnitude < 8) {  // subnormal: multiples of 2^-9
    const float value = static_cast<float>(magnitude) * 0x1p-9f;
    return sign ? -value : value;
  }
  return std::bit_cast<float>(sign | ((magnitude << 20) + (120u << 23)));
}

/// Round to nearest, ties to even, saturating at +-448; NaN stays NaN.
constexpr FP8 to_fp8(float x) {
  const auto u = std::bit_cast<std::uint32_t>(x);
  const auto sign = static_cast<std::uint8_t>((u >> 24) & 0x80u);
  const std::uint32_t m = u & 0x7fffffffu;
  if (m > 0x7f800000u) return {static_cast<std::uint8_t>(sign | 0x7fu)};
  if (m >= std::bit_cast<std::uint32_t>(448.0f)) return {static_cast<std::uint8_t>(sign | 0x7eu)};
  // The last bit of a sum near 2^14 is worth 2^-9, as that of a subnormal.
  if (m < std::bit_cast<std::uint32_t>(0x1p-6f))
    return {static_cast<std::uint8_t>(
        sign | (std::bit_cast<std::uint32_t>(std::bit_cast<float>(m) + 0x1p14f) & 0xfu))};
  const std::uint32_t rounded = m + 0x7ffffu + ((m >> 20) & 1u);
  return {static_cast<std::uint8_t>(sign | ((rounded - (120u << 23)) >> 20))};
}

}  // namespace helix
