// A tile of the KV cache (kv_layout.cuh) from shared memory as operands of the tensor cores. With tokens
// along the 16 rows of an operand, S^T = K Q^T and O^T = V^T P^T have the query heads along the 8
// columns, so that a group of up to 8 heads fills the tensor core's narrow side. On the way fp8 becomes f16,
// which one instruction does for two values, and NVFP4 bf16, both exactly; Q and P are made to match.
#pragma once

#include "kernels/cuda/attention/kv_layout.cuh"
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/widen.cuh"

namespace helix::cuda {

using OperandA = Vec<unsigned, 4>;  // 16 x 16 bf16 or f16
using OperandB = Vec<unsigned, 2>;  // 16 x 8 of the same
using OperandC = Vec<float, 4>;     // 16 x 8 fp32: rows g and g + 8, columns 2 t and 2 t + 1 of lane 4 g + t

/// Whether the tensor cores multiply f16 for a cache of this type. Q, which is bf16, keeps all its bits from 2^-14 on, has
/// an error of 2^-25 below, and would be infinite from 2^16 on, which then shows as NaN.
constexpr bool multiplies_f16(DType dtype) {
  return dtype == DType::fp8;
}
/// P is at most 2^this, so that f16 keeps what is much smaller too: a million tokens of 2^-20 weigh as much as the best.
constexpr int p_exponent(DType dtype) {
  return multiplies_f16(dtype) ? 15 : 0;
}

template <DType dtype>
struct KvTile {
  static constexpr int kUnit = values_per_unit(dtype);
  static constexpr int kBytes = tile_bytes(dtype);

  static HELIX_DEVICE void multiply(OperandC& c, const OperandA& a, const OperandB& b) {
    if constexpr (multiplies_f16(dtype)) {
      mma_f16(c, a, b);
    } else {
      mma_bf16(c, a, b);
    }
  }
  static HELIX_DEVICE unsigned pack(float low, float high) {
    return multiplies_f16(dtype) ? pack_f16(low, high) : pack_bf16(low, high);
  }

  /// The tile's K operands: 16 tokens x dims [16 i, 16 i + 16), for fp8 in the order of load_q.
  static HELIX_DEVICE void load_k(Shared<std::byte> tile, OperandA (&a)[4]) {
    HELIX_UNROLL for (int load = 0; load < 4 / kUnit; ++load) {
      const OperandA r = ldmatrix_x4(tile + load * 512 + lane_index() * 16);
      if constexpr (kUnit == 1) {
        a[load] = r;
      } else if constexpr (dtype == DType::fp8) {
        HELIX_UNROLL for (int i = 0; i < 2; ++i) {
          const unsigned low = r[2 * i], high = r[2 * i + 1];
          a[load * 2 + i] =
              OperandA{e4m3_to_f16(low), e4m3_to_f16(high), e4m3_to_f16(low >> 16), e4m3_to_f16(high >> 16)};
        }
      } else {
        HELIX_UNROLL for (int i = 0; i < kUnit; ++i) {
          const unsigned low = r[i / (kUnit / 2) * 2], high = r[i / (kUnit / 2) * 2 + 1];
          const int value = i % (kUnit / 2) * 2;
          const int block = load * kUnit + i;
          const unsigned scale_low = k_scale(tile, block, 0), scale_high = k_scale(tile, block, 8);
          a[block] = OperandA{widen(low, value, scale_low), widen(high, value, scale_high),
                              widen(low, value + 1, scale_low), widen(high, value + 1, scale_high)};
        }
      }
    }
  }

  /// The tile's V^T operands: dims [16 i, 16 i + 16) x 16 tokens, of which `valid` count (the values of the
  /// others are zero, but not the scales).
  static HELIX_DEVICE void load_v(Shared<std::byte> tile, int valid, OperandA (&a)[4]) {
    HELIX_UNROLL for (int load = 0; load < 4 / kUnit; ++load) {
      const OperandA r = ldmatrix_x4_trans(tile + load * 512 + lane_index() * 16);
      if constexpr (kUnit == 1) {
        a[load] = OperandA{r[0], r[2], r[1], r[3]};
      } else if constexpr (dtype == DType::fp8) {
        HELIX_UNROLL for (int i = 0; i < 2; ++i) {
          // The two tokens' values of one dim side by side, then those of the dim 8 further.
          const unsigned low = byte_permute(r[2 * i], 0, 0x3120),
                         high = byte_permute(r[2 * i + 1], 0, 0x3120);
          a[load * 2 + i] =
              OperandA{e4m3_to_f16(low), e4m3_to_f16(low >> 16), e4m3_to_f16(high), e4m3_to_f16(high >> 16)};
        }
      } else {
        HELIX_UNROLL for (int i = 0; i < kUnit; ++i) {
          const unsigned low = r[i / (kUnit / 2) * 2], high = r[i / (kUnit / 2) * 2 + 1];
          const int value = i % (kUnit / 2) * 2;
          const int block = load * kUnit + i;
          const unsigned scale_low = v_scale(tile, block, 0, valid),
                         scale_high = v_scale(tile, block, 8, valid);
          a[block] = OperandA{widen(low, value, scale_low), widen(low, value + 1, scale_low),
                              widen(high, value, scale_high), widen(high, value + 1, scale_high)};
        }
      }
    }
  }

 private:
  static HELIX_DEVICE unsigned widen(unsigned x, int value, unsigned scale) {
    return fma_bf16x2(widen_e2m1(x, value), scale, kMinusZeroPair);
  }

  static HELIX_DEVICE Shared<std::byte> scales(Shared<std::byte> tile, int block) {
    return tile + (tile_value_bytes(dtype) + block * kTileTokens);
  }
  /// The scale of the lane's row of K, in both halves.
  static HELIX_DEVICE unsigned k_scale(Shared<std::byte> tile, int block, int row) {
    if constexpr (dtype == DType::nvfp4) {
      const std::uint8_t e4m3 =
          (scales(tile, block) + (row + lane_index() / 4)).template as<std::uint8_t>()[0];
      return widen_e4m3(e4m3 | static_cast<unsigned>(e4m3) << 16, 0);
    }
    return 0;
  }
  /// The scales of the lane's two tokens of V.
  static HELIX_DEVICE unsigned v_scale(Shared<std::byte> tile, int block, int first, int valid) {
    if constexpr (dtype == DType::nvfp4) {
      const int token = first + lane_index() % 4 * 2;
      const std::uint16_t e4m3 = (scales(tile, block) + token).template as<std::uint16_t>()[0];
      unsigned pair = (e4m3 & 0xffu) | (e4m3 & 0xff00u) << 8;
      if (token + 1 >= valid) pair = token < valid ? pair & 0xffffu : 0;
      return widen_e4m3(pair, 0);
    }
    return 0;
  }
};

/// Starts copying a tile, of which this is one of `Threads` threads that do; the values of tokens past `valid` become
/// zero and are not read.
template <DType dtype, int Threads>
HELIX_DEVICE void copy_tile(Shared<std::byte> to, Global<const std::byte> from, int thread, int valid) {
  static_assert(Threads % kTileTokens == 0);  // all pieces of a thread are of one token
  constexpr int pieces = tile_bytes(dtype) / 16, rows = tile_value_bytes(dtype) / 16;
  const int of_token = thread % kTileTokens < valid ? 16 : 0, of_scales = valid > 0 ? 16 : 0;
  to = to + thread * 16;
  from = from + thread * 16;
  HELIX_UNROLL for (int first = 0; first < pieces; first += Threads) {
    const bool row = first + Threads <= rows || first + thread < rows;
    if (first + Threads <= pieces || first + thread < pieces)
      cp_async_16(to + first * 16, from + first * 16, row ? of_token : of_scales);
  }
}

/// Of lane 4 g + t: the values of its row of q from `dim` on, 2 t, 2 t + 1 and 2 t + 8, 2 t + 9, as load_k has K's: where
/// that is fp8, whose 16-bit units hold dims 8 apart, 2 t, 2 t + 8 and 2 t + 1, 2 t + 9.
template <DType dtype>
HELIX_DEVICE OperandB load_q(Global<const BF16> q, std::int64_t row, int dims, int dim) {
  const auto values = (q + (row * dims + dim)).template as<const unsigned>();
  const unsigned low = values[lane_index() % 4], high = values[lane_index() % 4 + 4];
  if constexpr (!multiplies_f16(dtype)) return {low, high};
  const auto value = [](unsigned pair, int half) {
    return to_float(BF16{static_cast<std::uint16_t>(pair >> 16 * half)});
  };
  return {pack_f16(value(low, 0), value(high, 0)), pack_f16(value(low, 1), value(high, 1))};
}

}  // namespace helix::cuda
