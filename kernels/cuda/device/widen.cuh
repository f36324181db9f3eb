// Narrow numbers as bf16, exactly, two at a time.
#pragma once

#include "kernels/cuda/device/device.cuh"

namespace helix::cuda {

inline constexpr unsigned kMinusZeroPair = 0x80008000u;

/// A power of two in both halves.
constexpr unsigned power_of_two_pair(int exponent) {
  return static_cast<unsigned>(127 + exponent) << 7 | static_cast<unsigned>(127 + exponent) << 23;
}

/// e4m3 (an eighth of each half's bits, `byte` of 0 or 1) as bf16. With the fields in place the number is
/// too small by the difference of the exponents' biases, 2^(127 - 7); subnormals come right too, a NaN
/// reads as 480.
HELIX_DEVICE unsigned widen_e4m3(unsigned x, int byte) {
  const unsigned fields = byte == 0 ? (x << 4 & 0x07f007f0u) | (x << 8 & 0x80008000u)
                                    : (x >> 4 & 0x07f007f0u) | (x & 0x80008000u);
  return fma_bf16x2(fields, power_of_two_pair(120), kMinusZeroPair);
}

/// e2m1 (nibble of 0 to 3 of each half) as bf16, by the same way.
HELIX_DEVICE unsigned widen_e2m1(unsigned x, int nibble) {
  const unsigned bits = x >> (4 * nibble);
  const unsigned fields = (bits << 6 & 0x01c001c0u) | (bits << 12 & 0x80008000u);
  return fma_bf16x2(fields, power_of_two_pair(126), kMinusZeroPair);
}

}  // namespace helix::cuda
