// What the decode kernels have in common: the split of a request's tokens over blocks, the softmax of one
// tile, and the second-level merge of the splits.
//
// Online softmax with u = scale * log2(e): m = max s, p = 2^((s - m) u), l = sum p, o = sum p v; the LSE in
// base 2 is m u + log2 l. Differences are taken before scaling, so that the largest logit's p is exactly 1
// however large it is. -inf logits are masked tokens; nothing but them is an empty request.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/cuda/attention/kv_tile.cuh"
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/gpu.hpp"

namespace helix::cuda {

inline constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();

/// Of which query heads and tokens a launch is. The heads of all rows of a request are one group of a KV head.
struct DecodeGrid {
  std::int64_t q_heads = 0;  // of a row
  int query_tokens = 1;      // rows of a request
  int row_heads = 0;         // query heads of a KV head in one row
  int group = 0;             // and in all
  int chunks = 0;            // blocks along a group's heads
  int splits = 0;            // blocks along a request's tokens
  float scale_log2 = 0.0f;   // u

  /// Of q, o and lse [rows, q_heads], where a group's head lies.
  HELIX_DEVICE std::int64_t row(std::int64_t request, int kv_head, int head) const {
    return (request * query_tokens + head / row_heads) * q_heads + kv_head * row_heads + head % row_heads;
  }
};

/// The tiles of a request, some of whose rows may see less of the last ones.
struct RowTiles {
  KvTiles tiles;  // as its last row sees them

  HELIX_DEVICE RowTiles(const KvView& cache, std::int64_t request, int query_tokens)
      : tiles{length(cache, (request + 1) * query_tokens - 1), cache.shape.tokens_per_page,
              KvLayout(cache.shape).page_tiles} {}
  /// Whether all rows see of a tile what the last one does. Asked anew for each tile: to keep the answer through a
  /// kernel's loop costs a register that MLA does not have.
  HELIX_DEVICE bool alike(const KvView& cache, const DecodeGrid& grid, std::int64_t request, int tile) const {
    if (grid.query_tokens == 1) return true;
    KvTiles least = tiles;
    least.tokens = length(cache, request * grid.query_tokens);
    return tile < least.count() - 1;
  }
  /// Tokens of the tile that the row of a group's head attends; padding has the last row's.
  HELIX_DEVICE int valid(const KvView& cache, const DecodeGrid& grid, std::int64_t request, int tile,
                         int head) const {
    const int of_step = head < grid.group ? head / grid.row_heads : grid.query_tokens - 1;
    KvTiles of_row = tiles;
    of_row.tokens = length(cache, request * grid.query_tokens + of_step);
    return of_row.place(tile).valid;
  }

 private:
  /// A page table of 32-bit numbers holds no more.
  static HELIX_DEVICE int length(const KvView& cache, std::int64_t row) {
    const std::int64_t tokens = Global<const std::int64_t>(cache.lengths)[row];
    return static_cast<int>(tokens);
  }
};

/// Results: to the caller's arrays with one split, else to scratch [batch, q_heads, splits], then merged.
struct DecodeOutput {
  Global<BF16> o;
  Global<float> lse;
  Global<float> split_o, split_lse2;

  HELIX_DEVICE void store_lse2(std::int64_t row, int split, int splits, float lse2) const {
    if (splits == 1) {
      lse[row] = lse2 * std::numbers::ln2_v<float>;
    } else {
      split_lse2[row * splits + split] = lse2;
    }
  }
  HELIX_DEVICE void store_o(std::int64_t row, int split, int splits, int dims, int dim, float x) const {
    if (splits == 1) {
      o[row * dims + dim] = to_bf16(x);
    } else {
      split_o[(row * splits + split) * dims + dim] = x;
    }
  }
};

/// The largest of the 8 lanes' values that hold one column of an operand C.
HELIX_DEVICE float column_max(float x) {
  HELIX_UNROLL for (int mask = 4; mask < kWarp; mask *= 2) x = fmaxf(x, shuffle_xor(x, mask));
  return x;
}
HELIX_DEVICE float column_sum(float x) {
  HELIX_UNROLL for (int mask = 4; mask < kWarp; mask *= 2) x += shuffle_xor(x, mask);
  return x;
}

/// 2^((x - max) u + exponent), 0 for x = -inf also where that is the largest.
HELIX_DEVICE float softmax_weight(float x, float max, float scale_log2, float exponent = 0.0f) {
  return exp2_fast((x - (max == kMinusInfinity ? 0.0f : max)) * scale_log2 + exponent);
}

/// S^T with the rows (tokens) masked that its columns, of the group's heads from `head` on, do not attend. `valid`:
/// tokens of the tile.
HELIX_DEVICE void mask_tokens(OperandC& s, const RowTiles& tiles, const KvView& cache, const DecodeGrid& grid,
                              std::int64_t request, int tile, int valid, int head) {
  if (valid == kTileTokens && tiles.alike(cache, grid, request, tile)) return;
  const int row = lane_index() / 4;
  HELIX_UNROLL for (int column = 0; column < 2; ++column) {
    const int attended = tiles.valid(cache, grid, request, tile, head + lane_index() % 4 * 2 + column);
    HELIX_UNROLL for (int i = column; i < 4; i += 2) {
      if (row + i / 2 * 8 >= attended) s[i] = kMinusInfinity;
    }
  }
}

/// s -> p 2^p_exponent and its operand P^T; adds the lane's to `sum`, both columns of it.
template <DType dtype>
HELIX_DEVICE OperandB softmax_tile(const OperandC& s, const Vec<float, 2>& max, float scale_log2,
                                   Vec<float, 2>& sum) {
  OperandC p;
  HELIX_UNROLL for (int i = 0; i < 4; ++i) p[i] =
      softmax_weight(s[i], max[i % 2], scale_log2, p_exponent(dtype));
  sum[0] += p[0] + p[2];
  sum[1] += p[1] + p[3];
  using Tile = KvTile<dtype>;
  return OperandB{movmatrix_trans(Tile::pack(p[0], p[1])), movmatrix_trans(Tile::pack(p[2], p[3]))};
}

/// The second level: o, lse of row blockIdx.x from its splits. Reads splits * (4 dims + 4) bytes a row.
inline constexpr int kMergeThreads = 128;

template <int Dims>
HELIX_KERNEL HELIX_BOUNDS(kMergeThreads, 4) void merge_splits(int splits, DecodeOutput out) {
  const std::int64_t row = blockIdx.x;
  const Global<float> lse2 = out.split_lse2 + row * splits;
  float max = kMinusInfinity, total = 0.0f;
  for (int s = 0; s < splits; ++s) {
    const float x = lse2[s];
    if (!(x <= max)) max = x;  // also takes a NaN
  }
  constexpr int per_thread = (Dims + kMergeThreads - 1) / kMergeThreads;
  float sum[per_thread] = {};
  for (int s = 0; s < splits; ++s) {
    const float x = lse2[s];
    if (x == kMinusInfinity) continue;  // its o was never written
    const float weight = exp2_fast(x - max);
    total += weight;
    HELIX_UNROLL for (int i = 0; i < per_thread; ++i) {
      const int dim = static_cast<int>(threadIdx.x) + i * kMergeThreads;
      if (dim < Dims) sum[i] += weight * out.split_o[(row * splits + s) * Dims + dim];
    }
  }
  if (threadIdx.x == 0)
    out.lse[row] = max == kMinusInfinity ? max : (max + log2f(total)) * std::numbers::ln2_v<float>;
  if (max == kMinusInfinity) return;
  HELIX_UNROLL for (int i = 0; i < per_thread; ++i) {
    const int dim = static_cast<int>(threadIdx.x) + i * kMergeThreads;
    if (dim < Dims) out.o[row * Dims + dim] = to_bf16(sum[i] / total);
  }
}

/// Splits of a launch of so many blocks (without splits) at most, however long the requests are.
inline int most_splits(std::int64_t blocks, std::int64_t block_slots) {
  return static_cast<int>(std::clamp<std::int64_t>(2 * block_slots / blocks, 1, 256));
}

/// Splits that leave no block slot of the GPU idle for long: the fewest that are within a tenth of the best
/// occupancy of the last wave. `parts`: what the longest request possible can be cut into.
inline int choose_splits(std::int64_t blocks, std::int64_t block_slots, std::int64_t parts) {
  const auto most = static_cast<int>(std::clamp<std::int64_t>(parts, 1, most_splits(blocks, block_slots)));
  const auto busy = [&](int splits) {
    const double waves = static_cast<double>(blocks * splits) / static_cast<double>(block_slots);
    return waves / std::ceil(waves);
  };
  double best = 0.0;
  for (int s = 1; s <= most; ++s) best = std::max(best, busy(s));
  int splits = 1;
  while (busy(splits) < 0.9 * best) ++splits;
  return splits;
}

}  // namespace helix::cuda
