// Paged flash-decode for grouped-query attention:
//   q [rows, q_heads, d], the KV cache -> o [rows, q_heads, d], lse [rows, q_heads], d of 64, 128, 256.
//
// Grid: x = split * chunks + chunk, y = KV head, z = request. A block has 8 * HeadTiles of the KV head's
// query heads (a chunk of its group) and one split of the request's tokens, tile by tile in turn to its
// Warps: 4, or 8 where a block is to have a multiprocessor for itself. A warp works alone until the end: it copies its tiles through a ring of its own in shared memory, K
// tile row then V tile row, so that copies need no barrier but the warp's, and multiplies
//   S^T [16 tokens, heads] = K Q^T,   O^T [d, heads] += V^T P^T    with mma m16n8k16.
// At the end the block merges its warps, and merge_splits the blocks.
//
// Bytes from memory: each block reads its tokens' K and V once, 2 * 2 d (bf16) a token and KV head; chunks of
// one group share them in L2. In flight: the rings but one tile, 20 KB a warp, 8 warps a multiprocessor (4
// where it has less than 200 KB of shared memory).
#pragma once

#include "kernels/cuda/attention/attention_split.cuh"

namespace helix::cuda {

template <DType dtype, int HeadDim, int HeadTiles, int Warps>
struct GqaShape {
  static constexpr int kThreads = Warps * kWarp;
  static constexpr int kHeads = 8 * HeadTiles;
  static constexpr int kParts = HeadDim / kTileDims;  // tiles side by side in a row
  static constexpr int kSlots = 22 * 1024 / tile_bytes(DType::bf16) * (dtype == DType::bf16 ? 1 : 2);
  static constexpr int kRingBytes = kSlots * tile_bytes(dtype);
  static constexpr int kQBytes = HeadDim / 16 * HeadTiles * kWarp * static_cast<int>(sizeof(OperandB));
  // When the rings are done with, o in fp32; 4 more in a row keep the lanes' stores on different banks.
  static constexpr int kPitch = HeadDim + 4;
  static constexpr int kMergeBytes = Warps * kHeads * (kPitch + 2) * 4;
  static constexpr int kSharedBytes = kQBytes + std::max(Warps * kRingBytes, kMergeBytes);
};

/// What a warp copies: the tiles begin, begin + Warps, ... of a request, each K's parts then V's.
template <DType dtype, int Parts, int Warps>
class GqaSource {
 public:
  HELIX_DEVICE GqaSource(const KvView& cache, std::int64_t request, int kv_head, const KvTiles& tiles,
                         int begin, int end)
      : walk_(tiles, begin),
        table_(cache.page_table + request * cache.max_pages),
        v_offset_(KvLayout(cache.shape).k_bytes),
        head_(static_cast<const std::byte*>(cache.pages) + kv_head * KvLayout(cache.shape).head_bytes()),
        page_bytes_(static_cast<std::int64_t>(cache.page_bytes)),
        tile_(begin),
        end_(end) {
    if (tile_ < end_) next_page_ = table_[walk_.place().page];
  }

  /// Issues the next copies, which are those of `part` of K and V's together, into `slot`, and closes their group,
  /// which is empty at the end.
  HELIX_DEVICE void copy_next(int part, Shared<std::byte> slot) {
    if (tile_ < end_) {
      if (part == 0) begin_tile();
      copy_tile<dtype, kWarp>(slot, (part < Parts ? k_ : v_) + part % Parts * tile_bytes(dtype), lane_index(),
                              valid_);
      if (part == 2 * Parts - 1) tile_ += Warps;
    }
    cp_async_commit();
  }

 private:
  /// The page table's entry for the tile after is on its way while this one is copied.
  HELIX_DEVICE void begin_tile() {
    const KvTiles::Place place = walk_.place();
    valid_ = place.valid;
    k_ = head_ + (next_page_ * page_bytes_ + place.in_page * Parts * tile_bytes(dtype));
    v_ = k_ + v_offset_;
    walk_.next();
    next_page_ = table_[tile_ + Warps < end_ ? walk_.place().page : 0];
  }

  KvTileWalk<Warps> walk_;  // at the tile after, once one has begun
  Global<const std::int32_t> table_;
  std::int64_t v_offset_;
  Global<const std::byte> head_;
  std::int64_t page_bytes_;
  int tile_, end_;
  int valid_ = 0;
  Global<const std::byte> k_, v_;  // of the tile that is copied
  std::int64_t next_page_ = 0;
};

template <DType dtype, int HeadDim, int HeadTiles, int Warps>
HELIX_KERNEL HELIX_BOUNDS(Warps* kWarp, 8 / Warps) void gqa_decode(KvView cache, DecodeGrid shape,
                                                                   Global<const BF16> q, DecodeOutput out) {
  using Shape = GqaShape<dtype, HeadDim, HeadTiles, Warps>;
  using Tile = KvTile<dtype>;
  const int warp = warp_index(), lane = lane_index();
  const int chunk = static_cast<int>(blockIdx.x) % shape.chunks,
            split = static_cast<int>(blockIdx.x) / shape.chunks;
  const int kv_head = static_cast<int>(blockIdx.y);
  const std::int64_t request = blockIdx.z;
  const int first_head = chunk * Shape::kHeads;  // in the group

  const RowTiles of_rows(cache, request, shape.query_tokens);
  const KvTiles& tiles = of_rows.tiles;
  const std::int64_t count = tiles.count();
  const int begin = static_cast<int>(count * split / shape.splits) + warp;
  const int end = static_cast<int>(count * (split + 1) / shape.splits);

  const auto ring = shared_memory<std::byte>(Shape::kQBytes + warp * Shape::kRingBytes);
  GqaSource<dtype, Shape::kParts, Warps> source(cache, request, kv_head, tiles, begin, end);
  constexpr int parts = 2 * Shape::kParts, ahead = Shape::kSlots - 1;
  for (int i = 0; i < ahead; ++i) source.copy_next(i % parts, ring + i * tile_bytes(dtype));
  int slot = 0, freed = ahead;  // of the next part to use, and to fill

  // Q as operands, the warps in turn, while the first tiles are on their way.
  const auto q_operands = shared_memory<OperandB>();
  for (int i = warp; i < HeadDim / 16 * HeadTiles; i += Warps) {
    const int head = first_head + i % HeadTiles * 8 + lane / 4;
    q_operands[i * kWarp + lane] =
        head < shape.group ? load_q<dtype>(q, shape.row(request, kv_head, head), HeadDim, i / HeadTiles * 16)
                           : OperandB{0, 0};
  }
  block_sync();

  const auto next_tile = [&](int part) {
    cp_async_wait<Shape::kSlots - 2>();
    warp_sync();
    source.copy_next((part + ahead) % parts, ring + freed * tile_bytes(dtype));
    freed = slot;
    slot = slot == Shape::kSlots - 1 ? 0 : slot + 1;
    return ring + freed * tile_bytes(dtype);
  };
  const auto q_operand = [&](int i, int n) -> OperandB {
    return q_operands[(i * HeadTiles + n) * kWarp + lane];
  };
  // In registers where there are enough.
  constexpr bool keeps_q = HeadDim * HeadTiles <= 256;
  OperandB kept_q[keeps_q ? HeadDim / 16 : 1][keeps_q ? HeadTiles : 1];
  if constexpr (keeps_q) {
    HELIX_UNROLL for (int i = 0; i < HeadDim / 16; ++i) {
      HELIX_UNROLL for (int n = 0; n < HeadTiles; ++n) kept_q[i][n] = q_operand(i, n);
    }
  }

  OperandC o[HeadDim / 16][HeadTiles] = {};
  Vec<float, 2> max[HeadTiles], sum[HeadTiles];
  HELIX_UNROLL for (int n = 0; n < HeadTiles; ++n) {
    max[n] = {kMinusInfinity, kMinusInfinity};
    sum[n] = {0.0f, 0.0f};
  }
  KvTileWalk<Warps> walk(tiles, begin);
  for (int tile = begin; tile < end; tile += Warps) {
    OperandC s[HeadTiles] = {};
    HELIX_UNROLL for (int part = 0; part < Shape::kParts; ++part) {
      OperandA k[4];
      Tile::load_k(next_tile(part), k);
      HELIX_UNROLL for (int i = 0; i < 4; ++i) {
        HELIX_UNROLL for (int n = 0; n < HeadTiles; ++n) {
          Tile::multiply(s[n], k[i], keeps_q ? kept_q[part * 4 + i][n] : q_operand(part * 4 + i, n));
        }
      }
    }
    const int valid = walk.place().valid;
    walk.next();
    OperandB p[HeadTiles];
    HELIX_UNROLL for (int n = 0; n < HeadTiles; ++n) {
      mask_tokens(s[n], of_rows, cache, shape, request, tile, valid, first_head + n * 8);
      const Vec<float, 2> larger{fmaxf(max[n][0], column_max(fmaxf(s[n][0], s[n][2]))),
                                 fmaxf(max[n][1], column_max(fmaxf(s[n][1], s[n][3])))};
      // Later tiles seldom have a larger one.
      if (ballot(larger[0] != max[n][0] || larger[1] != max[n][1]) != 0) {
        HELIX_UNROLL for (int i = 0; i < 2; ++i) {
          const float shrink = softmax_weight(max[n][i], larger[i], shape.scale_log2);
          sum[n][i] *= shrink;
          HELIX_UNROLL for (int d = 0; d < HeadDim / 16; ++d) {
            o[d][n][i] *= shrink;
            o[d][n][i + 2] *= shrink;
          }
        }
        max[n] = larger;
      }
      p[n] = softmax_tile<dtype>(s[n], max[n], shape.scale_log2, sum[n]);
    }
    HELIX_UNROLL for (int part = 0; part < Shape::kParts; ++part) {
      OperandA v[4];
      Tile::load_v(next_tile(Shape::kParts + part), valid, v);
      HELIX_UNROLL for (int i = 0; i < 4; ++i) {
        HELIX_UNROLL for (int n = 0; n < HeadTiles; ++n) Tile::multiply(o[part * 4 + i][n], v[i], p[n]);
      }
    }
  }

  // The block's merge: o [warp][head][dim] and, behind it, max and sum [warp][head].
  cp_async_wait<0>();
  block_sync();
  const auto merge_o = shared_memory<float>(Shape::kQBytes);
  const auto merge_max = merge_o + Warps * Shape::kHeads * Shape::kPitch;
  const auto merge_sum = merge_max + Warps * Shape::kHeads;
  HELIX_UNROLL for (int n = 0; n < HeadTiles; ++n) {
    HELIX_UNROLL for (int i = 0; i < 2; ++i) {
      const int head = n * 8 + lane % 4 * 2 + i;
      const float total = column_sum(sum[n][i]);
      if (lane < 4) {
        merge_max[warp * Shape::kHeads + head] = max[n][i];
        merge_sum[warp * Shape::kHeads + head] = total;
      }
      HELIX_UNROLL for (int d = 0; d < HeadDim / 16; ++d) {
        const auto row = merge_o + ((warp * Shape::kHeads + head) * Shape::kPitch + d * 16 + lane / 4);
        row[0] = o[d][n][i];
        row[8] = o[d][n][i + 2];
      }
    }
  }
  block_sync();
  for (int head = 0; head < Shape::kHeads && first_head + head < shape.group; ++head) {
    const std::int64_t row = shape.row(request, kv_head, first_head + head);
    float largest = kMinusInfinity, total = 0.0f, weight[Warps];
    HELIX_UNROLL for (int w = 0; w < Warps; ++w) largest =
        fmaxf(largest, merge_max[w * Shape::kHeads + head]);
    HELIX_UNROLL for (int w = 0; w < Warps; ++w) {
      weight[w] = softmax_weight(merge_max[w * Shape::kHeads + head], largest, shape.scale_log2);
      total += weight[w] * merge_sum[w * Shape::kHeads + head];
    }
    const bool empty = total == 0.0f;
    if (threadIdx.x == 0)
      out.store_lse2(row, split, shape.splits,
                     empty ? kMinusInfinity : largest * shape.scale_log2 + log2f(total) - p_exponent(dtype));
    if (empty) continue;
    const float inverse = 1.0f / total;
    for (int dim = static_cast<int>(threadIdx.x); dim < HeadDim; dim += Shape::kThreads) {
      float x = 0.0f;
      HELIX_UNROLL for (int w = 0; w < Warps; ++w) x +=
          weight[w] * merge_o[(w * Shape::kHeads + head) * Shape::kPitch + dim];
      out.store_o(row, split, shape.splits, HeadDim, dim, x * inverse);
    }
  }
}

}  // namespace helix::cuda
