// A tile of the KV cache (kv_layout.cuh) from shared memory as operands of the tensor cores. With tokens
// along the 16 rows of an operand, S^T = K Q^T and O^T = V^T P^T have the query heads along the 8
// columns, so that a group of up to 8 heads fills the tensor core's narrow side. fp8 and NVFP4 become
// bf16 on the way, exactly.
#pragma once

#include "kernels/cuda/attention/kv_layout.cuh"
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/widen.cuh"

namespace helix::cuda {

using OperandA = Vec<unsigned, 4>;  // 16 x 16 bf16
using OperandB = Vec<unsigned, 2>;  // 16 x 8 bf16
using OperandC = Vec<float, 4>;     // 16 x 8 fp32: rows g and g + 8, columns 2 t and 2 t + 1 of lane 4 g + t

template <DType dtype>
struct KvTile {
  static constexpr int kUnit = values_per_unit(dtype);
  static constexpr int kBytes = tile_bytes(dtype);

  /// The tile's K operands: 16 tokens x dims [16 i, 16 i + 16).
  static HELIX_DEVICE void load_k(Shared<std::byte> tile, OperandA (&a)[4]) {
    HELIX_UNROLL for (int load = 0; load < 4 / kUnit; ++load) {
      const OperandA r = ldmatrix_x4(tile + load * 512 + lane_index() * 16);
      if constexpr (kUnit == 1) {
        a[load] = r;
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
    if constexpr (dtype == DType::fp8) {
      return widen_e4m3(x, value);
    } else {
      return fma_bf16x2(widen_e2m1(x, value), scale, kMinusZeroPair);
    }
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

/// Starts copying one 16-byte piece of a tile; the values of tokens past `valid` become zero and
/// are not read.
template <DType dtype>
HELIX_DEVICE void copy_piece(Shared<std::byte> tile, Global<const std::byte> from, int piece, int valid) {
  const bool row = piece < tile_value_bytes(dtype) / 16;
  const bool empty = row ? piece % kTileTokens >= valid : valid <= 0;
  cp_async_16(tile + piece * 16, from + piece * 16, empty ? 0 : 16);
}

/// Of lane 4 g + t: values 2 t, 2 t + 1 and 2 t + 8, 2 t + 9, from `dim` on, of its row of q.
HELIX_DEVICE OperandB load_q(Global<const BF16> q, std::int64_t row, int dims, int dim) {
  const auto values = (q + (row * dims + dim)).template as<const unsigned>();
  return OperandB{values[lane_index() % 4], values[lane_index() % 4 + 4]};
}

}  // namespace helix::cuda
