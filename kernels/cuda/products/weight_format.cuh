// What the weights of a type are on their way from memory to the tensor cores, which multiply bf16: a lane
// holds 8 consecutive inputs of a row at a time, and widens them in registers.
#pragma once

#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/widen.cuh"
#include "kernels/cuda/small/packed_weight.hpp"

namespace helix::cuda {

/// 8 values as bf16, two in each.
using Eight = Vec<unsigned, 4>;

template <DType dtype>
struct WeightFormat;

template <>
struct WeightFormat<DType::bf16> {
  using Packed = Vec<unsigned, 4>;        // 8 values
  static constexpr float kFactor = 1.0f;  // a product is this times the sum of what `widen` gives
  static HELIX_DEVICE Eight widen(const Packed& x, unsigned) { return x; }
};

template <>
struct WeightFormat<DType::fp8> {
  using Packed = Vec<unsigned, 2>;
  static constexpr float kFactor = 1.0f;
  static HELIX_DEVICE Eight widen(const Packed& x, unsigned) {
    Eight wide;
    HELIX_UNROLL
    for (int i = 0; i < 4; ++i) {
      // Two neighbours to the upper bytes of the halves.
      const unsigned spread = byte_permute(x[i / 2], 0, i % 2 == 0 ? 0x1404u : 0x3424u);
      wide[i] = widen_e4m3(spread, 1);
    }
    return wide;
  }
};

template <>
struct WeightFormat<DType::nvfp4> {
  using Packed = Vec<unsigned, 1>;
  static constexpr float kFactor = 0x1p8f;

  /// What widen() multiplies by, in both halves: 2^118 times an e4m3 scale, so that it stays a bf16. An
  /// e2m1's fields are those of a bf16 2^126 times as small: 2^-8 is left over.
  static HELIX_DEVICE unsigned multiplier(unsigned e4m3) {
    return fma_bf16x2(widen_e4m3(e4m3 | e4m3 << 16, 0), power_of_two_pair(118), kMinusZeroPair);
  }
  static HELIX_DEVICE Eight widen(const Packed& x, unsigned multiplier) {
    Eight wide;
    HELIX_UNROLL
    for (int i = 0; i < 4; ++i) {
      // A byte's two values to the upper ends of the halves.
      const unsigned spread = byte_permute(x[0], x[0] << 4, static_cast<unsigned>(i) * 0x1010u + 0x0040u);
      const unsigned fields = (spread >> 6 & 0x01c001c0u) | (spread & 0x80008000u);
      wide[i] = fma_bf16x2(fields, multiplier, kMinusZeroPair);
    }
    return wide;
  }
};

}  // namespace helix::cuda
