// Flash-decode of absorbed MLA on AMX tiles. The cache holds one row a token that is both K and, in
// its head, V:
//   S^T [tokens, heads] = K Q^T   with rows of the cache as A tiles, as they are, and Q packed once;
//   O [heads, v_dim] += P V       with P transposed, and V interleaved to B tiles.
// A chunk of tokens goes through two stages, in which the vector units work beside the tile unit:
//   S, block by block of 32 tokens and 32 heads, while the scores of the block before, which never leave L1,
//   become P, and fp8 rows of the block after are widened;
//   P V, while the next columns of V are interleaved and the next tiles of O fetched into L1.
// Tiles are loaded so that one operand of a product stays in L1 and the other, streaming through from L2,
// does not displace it.
#include "kernels/cpu/machine/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>
#include <cmath>

#include "kernels/cpu/attention/mla_product.hpp"
#include "kernels/cpu/attention/mla_rows.hpp"
#include "kernels/cpu/attention/mla_softmax.hpp"
#include "kernels/cpu/attention/mla_workspace.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu {
namespace {

using amx::PendingSums;
using mla::Block, mla::Blocks, mla::Once, mla::Product, mla::Softmax, mla::Spread, mla::Workspace;
using mla::block_tokens, mla::tile_bytes, mla::tile_floats;
constexpr float infinity = std::numeric_limits<float>::infinity();

Workspace arrays(const UnitShape& shape, std::byte* workspace) {
  return carved<Workspace>(workspace, shape);
}

/// The first stage: P of all heads. `rows`: of `blocks` in bf16; fp8 is widened to there a block ahead.
template <bool kFp8>
class Probabilities {
 public:
  Probabilities(const UnitShape& shape, const Workspace& ws, const Blocks& blocks, const Blocks& rows,
                Prefetcher& next)
      : ws_(ws),
        blocks_(blocks),
        rows_(rows),
        next_(next),
        widen_(shape.layout),
        scale_log2_(shape.scale_log2) {}

  void compute_all() {
    const std::int64_t widen_pieces = kFp8 ? widen_.pieces() : 0;
    for (std::int64_t i = 0; i < widen_pieces; ++i) widen_.work(blocks_.at[0], rows_.at[0], i);
    const std::int64_t pairs = (ws_.head_tiles + 1) / 2;
    float* scores = ws_.scores;
    for (std::int64_t block = 0; block < rows_.count; ++block) {
      widening_ = Spread(block + 1 < rows_.count ? widen_pieces : 0, pairs * ws_.k_steps);
      for (std::int64_t h = 0; h < ws_.head_tiles; h += 2) {
        h + 1 < ws_.head_tiles ? multiply_block<2, Once::b>(block, h, scores)
                               : multiply_block<1, Once::a>(block, h, scores);
        scores = scores == ws_.scores ? ws_.scores + 4 * tile_floats : ws_.scores;
      }
    }
    pending_.store_from<0>();
    softmax_.mask();
    for (std::int64_t tile = 0; tile < softmax_.tiles(); ++tile)
      amx::unrolled<Softmax::pieces>([&](auto piece) __attribute__((always_inline)) { soften(piece, tile); });
  }

 private:
  /// Of 32 tokens and one or two tiles of heads.
  template <int kTiles, Once kOnce>
  void multiply_block(std::int64_t block, std::int64_t h, float* scores) {
    const Block& tokens = rows_.at[block];
    const std::int64_t q_tiles = ws_.k_steps * tile_bytes;
    Product<2, kTiles, kOnce> product(tokens.k[0], tokens.k[1] - tokens.k[0], ws_.q + h * q_tiles, q_tiles);
    std::int64_t left = ws_.k_steps;
    Prefetcher next = next_;
    const auto beside_step = [&]() __attribute__((always_inline)) {
      --left;
      if constexpr (kFp8)
        widening_.step([&](std::int64_t piece) __attribute__((always_inline)) {
          widen_.work(blocks_.at[block + 1], rows_.at[block + 1], piece);
        });
      next.step();
    };
    const auto step = [&]() __attribute__((always_inline)) {
      product.step();
      beside_step();
    };
    pending_.store_from<2 * kTiles>();
    product.step([&](auto sum) __attribute__((always_inline)) {
      pending_.store<sum()>();
      amx::zero<sum()>();
    });
    beside_step();
    // The scores of the block before take until the next step to be stored.
    if (left > 0) step();
    softmax_.mask();
    for (std::int64_t tile = 0; tile < softmax_.tiles(); ++tile)
      amx::unrolled<Softmax::pieces>([&](auto piece) __attribute__((always_inline)) {
        if (left > 0) step();
        soften(piece, tile);
      });
    while (left > 0) step();
    next_ = next;
    pending_.leave<2, kTiles>({scores, 64, tile_bytes, 2 * tile_bytes});
    softmax_.start(scores, tokens, h, kTiles, block);
  }

  template <typename Piece>
  HELIX_ALWAYS_INLINE void soften(Piece, std::int64_t tile) {
    softmax_.template work<Piece::value>(ws_, scale_log2_, tile);
  }

  const Workspace& ws_;
  const Blocks &blocks_, &rows_;
  Prefetcher& next_;
  mla::WidenRows widen_;
  float scale_log2_;
  Softmax softmax_;
  PendingSums pending_;
  Spread widening_{0, 1};
};

/// What has become due of rescaling O.
void rescale_sums(const Workspace& ws) {
  for (std::int64_t h = 0; h < ws.head_tiles; ++h) {
    float* const factor = ws.factor + 16 * h;
    const __m512 one = _mm512_set1_ps(1.0f);
    if (_mm512_cmp_ps_mask(_mm512_load_ps(factor), one, _CMP_NEQ_UQ) == 0) continue;
    for (std::int64_t v_tile = 0; v_tile < ws.v_tiles; ++v_tile)
      for (std::int64_t lane = 0; lane < ws.tile_heads; ++lane) {
        float* const o = ws.o_of(h, v_tile) + 16 * lane;
        _mm512_store_ps(o, _mm512_mul_ps(_mm512_load_ps(o), _mm512_set1_ps(factor[lane])));
      }
    _mm512_store_ps(factor, one);
  }
}

/// The second stage: O += P V, kRows tiles of heads by kColumns of V at a time.
class AddValues {
 public:
  AddValues(const Workspace& ws, const Blocks& rows, Prefetcher& next) : ws_(ws), rows_(rows), next_(next) {}

  void add_all() {
    rescale_sums(ws_);
    amx::configure_blocks(ws_.v_group == 4 ? amx::Shape::wide : amx::Shape::square, ws_.tile_heads,
                          block_tokens);
    for (std::int64_t block = 0; block < rows_.count; ++block) interleave(0, block);
    for (std::int64_t v_tile = 0; v_tile < ws_.v_tiles; v_tile += ws_.v_group) {
      if (ws_.v_group == 4) {
        multiply_block<1, 4>(0, v_tile);
        continue;
      }
      std::int64_t h = 0;
      for (; h + 2 <= ws_.head_tiles; h += 2) multiply_block<2, 2>(h, v_tile);
      if (h < ws_.head_tiles) multiply_block<1, 2>(h, v_tile);
    }
    pending_.store_from<0>();
  }

 private:
  /// The last heads to use a group of V's tiles leave the next group in its place.
  template <int kRows, int kColumns>
  void multiply_block(std::int64_t h, std::int64_t v_tile) {
    constexpr int sums = kRows * kColumns;
    const std::int64_t across = ws_.chunk_blocks * tile_bytes;
    const std::int64_t next_v_tile = v_tile + ws_.v_group;
    const bool replaces_v = h + kRows >= ws_.head_tiles && next_v_tile < ws_.v_tiles;
    float* const o = ws_.o_of(h, v_tile);
    const std::byte* const next_o = reinterpret_cast<const std::byte*>(o + sums * tile_floats);
    Spread fetch(sums * tile_bytes / 64, rows_.count);
    pending_.store_from<sums>();
    const auto start = [&](auto sum) __attribute__((always_inline)) {
      pending_.store<sum()>();
      amx::load<sum()>(o + sum() * tile_floats, 64);
    };
    Product<kRows, kColumns, Once::a> product(ws_.p_of(h, 0), across, ws_.v, across);
    const auto beside_step = [&](std::int64_t block) __attribute__((always_inline)) {
      if (replaces_v) interleave(next_v_tile, block);
      fetch.step([&](std::int64_t line)
                     __attribute__((always_inline)) { __builtin_prefetch(next_o + 64 * line, 1, 3); });
      next_.step();
    };
    product.step(start);
    beside_step(0);
    for (std::int64_t block = 1; block < rows_.count; ++block) {
      product.step();
      beside_step(block);
    }
    pending_.leave<kRows, kColumns>({o, 64, kColumns * tile_bytes, tile_bytes});
  }

  /// A block's part of the group of V from v_tile on.
  HELIX_ALWAYS_INLINE void interleave(std::int64_t v_tile, std::int64_t block) const {
    for (std::int64_t tile = 0; tile < ws_.v_group; tile += 2)
      for (std::int64_t half = 0; half < 2; ++half)
        mla::interleave_rows(rows_.at[block].k[half] + (v_tile + tile) / 2 * tile_bytes,
                             rows_.at[block].valid[half], ws_.v_of(tile, block) + half * tile_bytes / 2,
                             ws_.v_of(tile + 1, block) + half * tile_bytes / 2);
  }

  const Workspace& ws_;
  const Blocks& rows_;
  Prefetcher& next_;
  PendingSums pending_;
};

class AmxMlaChunkKernel final : public ChunkKernel {
 public:
  std::string name() const override { return "amx-bf16"; }
  std::int64_t longest_chunk(const UnitShape& shape) const override { return mla::longest_chunk(shape); }

  std::size_t workspace_bytes(const UnitShape& shape) const override {
    return carved_bytes<Workspace>(Carver(), shape);
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const Workspace ws = arrays(shape, workspace);
    for (std::int64_t tile = 0; tile < ws.head_tiles; ++tile)
      for (std::int64_t step = 0; step < ws.k_steps; ++step) {
        __m512i rows[16];
        for (std::int64_t lane = 0; lane < 16; ++lane) {
          const std::int64_t h = tile * ws.tile_heads + lane;
          rows[lane] = lane < ws.tile_heads && h < shape.heads
                           ? _mm512_loadu_si512(q + h * shape.layout.head_dim + 32 * step)
                           : _mm512_setzero_si512();
        }
        mla::transpose(rows, ws.q + (tile * ws.k_steps + step) * tile_bytes);
      }
    std::fill_n(ws.o, ws.head_tiles * ws.v_tiles * tile_floats, 0.0f);
    std::fill_n(ws.reference, ws.head_tiles * 16, -infinity);
    std::fill_n(ws.sum, ws.head_tiles * 16, 0.0f);
    std::fill_n(ws.rounded_sum, ws.head_tiles * 16, 0.0f);
    std::fill_n(ws.factor, ws.head_tiles * 16, 1.0f);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    const Workspace ws = arrays(shape, workspace);
    const Blocks blocks(shape.layout, chunk);
    Blocks rows = blocks;
    if (shape.layout.fp8)
      for (std::int64_t block = 0; block < rows.count; ++block)
        for (std::int64_t half = 0; half < 2; ++half) rows.at[block].k[half] = ws.rows_of(block, half);
    const std::int64_t pairs = (ws.head_tiles + 1) / 2;
    next.plan(blocks.count * pairs * (ws.k_steps + ws.v_tiles / ws.v_group));
    amx::configure_blocks(amx::Shape::square, 16, block_tokens);
    if (shape.layout.fp8)
      Probabilities<true>(shape, ws, blocks, rows, next).compute_all();
    else
      Probabilities<false>(shape, ws, blocks, rows, next).compute_all();
    AddValues(ws, rows, next).add_all();
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    amx::release();
    const Workspace ws = arrays(shape, workspace);
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const std::int64_t tile = h / ws.tile_heads, lane = h % ws.tile_heads, at = 16 * tile + lane;
      lse2[h] = ws.reference[at] * shape.scale_log2 + std::log2(ws.sum[at]);
      // Dividing by the rounded sum cancels the rounding of probabilities that are alike. Zero:
      // all scores -inf.
      const __m512 factor = _mm512_set1_ps(ws.rounded_sum[at] == 0.0f ? 0.0f : 1.0f / ws.rounded_sum[at]);
      for (std::int64_t v_tile = 0; v_tile < ws.v_tiles; v_tile += 2) {
        const float* const row = ws.o_of(tile, v_tile) + 16 * lane;
        __m512 first, second;
        mla::restore_column_order(_mm512_load_ps(row), _mm512_load_ps(row + tile_floats), first, second);
        float* const to = o + h * shape.layout.v_dim + 16 * v_tile;
        _mm512_storeu_ps(to, _mm512_mul_ps(first, factor));
        _mm512_storeu_ps(to + 16, _mm512_mul_ps(second, factor));
      }
    }
  }
};

}  // namespace

const ChunkKernel& amx_mla_chunk_kernel() {
  static const AmxMlaChunkKernel kernel;
  return kernel;
}

}  // namespace helix::cpu

#pragma GCC pop_options
#endif
