// Paged flash-decode for absorbed multi-head latent attention: every query head reads the one cache row of a
// token, 576 values, whose first 512 are also its V.
//   q [rows, q_heads, 576], the KV cache -> o [rows, q_heads, 512], lse [rows, q_heads].
//
// Grid: x = split * chunks + chunk, z = request. A block has `Heads` query heads (a chunk) and one split of
// the request's tokens, 16 * TokenTiles at a step, in the stages of a ring in shared memory that all its
// warps fill. Three barriers a step, when
//   the stage has arrived: S^T [16 tokens, Heads / Share] = K Q^T, where a warp has one tile of tokens;
//   the tiles' maxima are known: P^T, and by how much the sums shrink, to shared memory;
//   P^T is there: O^T [512 / warps dims, Heads] += V^T P^T, where a warp has its dims of all tokens.
// Q stays in shared memory, in the order of the operands.
//
// Bytes from memory: each block reads its tokens' rows once, 1152 (bf16) a token; the chunks of one
// request share them in L2. In flight: all stages but one, 74 KB or more. 64 heads a block
// are 128 FLOP a byte, 128 heads of a request 242: near what mma.sync reaches, so that there the tensor
// cores are the bound.
#pragma once

#include "kernels/cuda/attention/attention_split.cuh"

namespace helix::cuda {

inline constexpr int kMlaRow = 576, kMlaV = 512;

/// `Heads` query heads, and 16 * TokenTiles tokens a step, of which `Share` warps take a tile.
template <DType dtype, int Heads, int TokenTiles, int Share>
struct MlaShape {
  static constexpr int kHeadTiles = Heads / 8;
  static constexpr int kWarps = Share * TokenTiles, kThreads = kWarps * kWarp;
  static constexpr int kRowTiles = kMlaRow / kTileDims;
  static constexpr int kStageBytes = TokenTiles * kRowTiles * tile_bytes(dtype);
  static constexpr int kStages = kWarps * kRowTiles * tile_bytes(DType::bf16) / kStageBytes;
  // Offsets in shared memory: Q at 0, then
  static constexpr int kRing = kMlaRow / 16 * kHeadTiles * kWarp * static_cast<int>(sizeof(OperandB));
  static constexpr int kP = kRing + kStages * kStageBytes;
  static constexpr int kMaxima = kP + TokenTiles * kHeadTiles * kWarp * static_cast<int>(sizeof(OperandB));
  static constexpr int kShrink = kMaxima + TokenTiles * Heads * static_cast<int>(sizeof(float));
  static constexpr int kValid = kShrink + Heads * static_cast<int>(sizeof(float));
  static constexpr int kSharedBytes = kValid + kStages * TokenTiles * static_cast<int>(sizeof(int));
};

template <DType dtype, int Heads, int TokenTiles, int Share>
HELIX_KERNEL HELIX_BOUNDS((MlaShape<dtype, Heads, TokenTiles, Share>::kThreads),
                          1) void mla_decode(KvView cache, DecodeGrid shape, Global<const BF16> q,
                                             DecodeOutput out) {
  using Shape = MlaShape<dtype, Heads, TokenTiles, Share>;
  using Tile = KvTile<dtype>;
  constexpr int row_tiles = Shape::kRowTiles, head_tiles = Shape::kHeadTiles, own_tiles = head_tiles / Share;
  const int warp = warp_index(), lane = lane_index();
  const int chunk = static_cast<int>(blockIdx.x) % shape.chunks,
            split = static_cast<int>(blockIdx.x) / shape.chunks;
  const std::int64_t request = blockIdx.z;
  const int first_head = chunk * Heads;

  const RowTiles of_rows(cache, request, shape.query_tokens);
  const KvTiles& tiles = of_rows.tiles;
  const std::int64_t steps = (tiles.count() + TokenTiles - 1) / TokenTiles;
  const int begin = static_cast<int>(steps * split / shape.splits);
  const int end = static_cast<int>(steps * (split + 1) / shape.splits);

  // Two warps copy one of a stage's tiles of tokens. The page of the one after is looked up ahead.
  const Global<const std::int32_t> table(cache.page_table + request * cache.max_pages);
  const Global<const std::byte> pages(cache.pages);
  const auto ring = shared_memory<std::byte>(Shape::kRing);
  const auto valid_tokens = shared_memory<int>(Shape::kValid);  // [stage][tile]
  KvTileWalk<TokenTiles> copied(tiles, begin * TokenTiles + warp / Share);
  const auto page_of = [&](int step) -> int {
    const KvTiles::Place place = copied.place();
    return step < end && place.valid > 0 ? table[place.page] : 0;
  };
  int copy_page = page_of(begin);
  const auto copy_next = [&](int step, int slot) {
    if (step < end) {
      const KvTiles::Place place = copied.place();
      constexpr int row_bytes = row_tiles * tile_bytes(dtype);
      const auto from =
          pages + (static_cast<std::int64_t>(copy_page) * static_cast<std::int64_t>(cache.page_bytes) +
                   place.in_page * row_bytes);
      const auto to = ring + (slot * Shape::kStageBytes + warp / Share * row_bytes);
      HELIX_UNROLL for (int t = 0; t < row_tiles; ++t) copy_tile<dtype, Share * kWarp>(
          to + t * tile_bytes(dtype), from + t * tile_bytes(dtype), warp % Share * kWarp + lane, place.valid);
      if (warp % Share == 0 && lane == 0) valid_tokens[slot * TokenTiles + warp / Share] = place.valid;
      copied.next();
      copy_page = page_of(step + 1);
    }
    cp_async_commit();
  };
  for (int i = 0; i < Shape::kStages - 1; ++i) copy_next(begin + i, i);

  // Meanwhile Q as operands; the first step's barrier is theirs too.
  const auto q_operands = shared_memory<OperandB>();
  for (int i = warp; i < kMlaRow / 16 * head_tiles; i += Shape::kWarps) {
    const int head = first_head + i % head_tiles * 8 + lane / 4;
    q_operands[i * kWarp + lane] =
        head < shape.group ? load_q<dtype>(q, shape.row(request, 0, head), kMlaRow, i / head_tiles * 16)
                           : OperandB{0, 0};
  }

  const auto p_operands = shared_memory<OperandB>(Shape::kP);
  const auto maxima = shared_memory<Vec<float, 2>>(Shape::kMaxima);  // [tile][head], two neighbours
  const auto shrinks = shared_memory<Vec<float, 2>>(Shape::kShrink);
  const int token_tile = warp % TokenTiles, first_tile = warp / TokenTiles * own_tiles;
  const auto pair = [&](int n) { return n * 4 + lane % 4; };  // of the lane's heads in head tile n
  constexpr int dim_tiles = kMlaV / kTileDims / Shape::kWarps;

  OperandC o[dim_tiles * 4][head_tiles] = {};
  Vec<float, 2> max[own_tiles], sum[own_tiles];
  HELIX_UNROLL for (int n = 0; n < own_tiles; ++n) {
    max[n] = {kMinusInfinity, kMinusInfinity};
    sum[n] = {0.0f, 0.0f};
  }
  int slot = 0;
  for (int step = begin; step < end; ++step) {
    cp_async_wait<Shape::kStages - 2>();
    block_sync();
    copy_next(step + Shape::kStages - 1, slot == 0 ? Shape::kStages - 1 : slot - 1);
    const auto stage = ring + slot * Shape::kStageBytes;
    const auto stage_valid = valid_tokens + slot * TokenTiles;
    slot = slot == Shape::kStages - 1 ? 0 : slot + 1;

    OperandC s[own_tiles] = {};
    for (int t = 0; t < row_tiles; ++t) {
      OperandA k[4];
      Tile::load_k(stage + (token_tile * row_tiles + t) * tile_bytes(dtype), k);
      HELIX_UNROLL for (int i = 0; i < 4; ++i) {
        HELIX_UNROLL for (int n = 0; n < own_tiles; ++n) {
          const OperandB b = q_operands[((t * 4 + i) * head_tiles + first_tile + n) * kWarp + lane];
          Tile::multiply(s[n], k[i], b);
        }
      }
    }
    const int tile = step * TokenTiles + token_tile, valid = stage_valid[token_tile];
    HELIX_UNROLL for (int n = 0; n < own_tiles; ++n) {
      mask_tokens(s[n], of_rows, cache, shape, request, tile, valid, first_head + (first_tile + n) * 8);
      const Vec<float, 2> largest{column_max(fmaxf(s[n][0], s[n][2])), column_max(fmaxf(s[n][1], s[n][3]))};
      if (lane < 4) maxima[token_tile * Heads / 2 + pair(first_tile + n)] = largest;
    }
    block_sync();

    HELIX_UNROLL for (int n = 0; n < own_tiles; ++n) {
      Vec<float, 2> larger = max[n], shrink;
      HELIX_UNROLL for (int t = 0; t < TokenTiles; ++t) {
        const Vec<float, 2> of_tile = maxima[t * Heads / 2 + pair(first_tile + n)];
        HELIX_UNROLL for (int i = 0; i < 2; ++i) larger[i] = fmaxf(larger[i], of_tile[i]);
      }
      HELIX_UNROLL for (int i = 0; i < 2; ++i) {
        shrink[i] = softmax_weight(max[n][i], larger[i], shape.scale_log2);
        sum[n][i] *= shrink[i];
      }
      max[n] = larger;
      if (token_tile == 0 && lane < 4) shrinks[pair(first_tile + n)] = shrink;
      p_operands[(token_tile * head_tiles + first_tile + n) * kWarp + lane] =
          softmax_tile<dtype>(s[n], max[n], shape.scale_log2, sum[n]);
    }
    block_sync();

    HELIX_UNROLL for (int n = 0; n < head_tiles; ++n) {
      const Vec<float, 2> shrink = shrinks[pair(n)];
      if (ballot(shrink[0] != 1.0f || shrink[1] != 1.0f) == 0) continue;  // as most often
      HELIX_UNROLL for (int d = 0; d < dim_tiles * 4; ++d) {
        HELIX_UNROLL for (int i = 0; i < 4; ++i) o[d][n][i] *= shrink[i % 2];
      }
    }
    for (int t = 0; t < TokenTiles; ++t) {
      HELIX_UNROLL for (int c = 0; c < dim_tiles; ++c) {
        OperandA v[4];
        Tile::load_v(stage + (t * row_tiles + warp * dim_tiles + c) * tile_bytes(dtype), stage_valid[t], v);
        HELIX_UNROLL for (int n = 0; n < head_tiles; ++n) {
          const OperandB p = p_operands[(t * head_tiles + n) * kWarp + lane];
          HELIX_UNROLL for (int i = 0; i < 4; ++i) Tile::multiply(o[c * 4 + i][n], v[i], p);
        }
      }
    }
  }
  cp_async_wait<0>();

  // Sums of the tiles of tokens, and the heads' maxima, take the places of the maxima and the shrinking.
  block_sync();
  HELIX_UNROLL for (int n = 0; n < own_tiles; ++n) {
    const Vec<float, 2> of_tile{column_sum(sum[n][0]), column_sum(sum[n][1])};
    if (lane < 4) maxima[token_tile * Heads / 2 + pair(first_tile + n)] = of_tile;
    if (lane < 4 && token_tile == 0) shrinks[pair(first_tile + n)] = max[n];
  }
  block_sync();
  HELIX_UNROLL for (int n = 0; n < head_tiles; ++n) {
    Vec<float, 2> total{0.0f, 0.0f};
    HELIX_UNROLL for (int t = 0; t < TokenTiles; ++t) {
      const Vec<float, 2> of_tile = maxima[t * Heads / 2 + pair(n)];
      HELIX_UNROLL for (int i = 0; i < 2; ++i) total[i] += of_tile[i];
    }
    const Vec<float, 2> largest = shrinks[pair(n)], inverse{1.0f / total[0], 1.0f / total[1]};
    HELIX_UNROLL for (int i = 0; i < 2; ++i) {
      const int head = first_head + pair(n) * 2 + i;
      if (head >= shape.group) continue;
      const std::int64_t row = shape.row(request, 0, head);
      const bool empty = total[i] == 0.0f;
      if (warp == 0 && lane < 4)
        out.store_lse2(
            row, split, shape.splits,
            empty ? kMinusInfinity : largest[i] * shape.scale_log2 + log2f(total[i]) - p_exponent(dtype));
      if (empty) continue;
      HELIX_UNROLL for (int d = 0; d < dim_tiles * 4; ++d) {
        const int dim = (warp * dim_tiles * 4 + d) * 16 + lane / 4;
        out.store_o(row, split, shape.splits, kMlaV, dim, o[d][n][i] * inverse[i]);
        out.store_o(row, split, shape.splits, kMlaV, dim + 8, o[d][n][i + 2] * inverse[i]);
      }
    }
  }
}

}  // namespace helix::cuda
