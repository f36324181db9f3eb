// Flash-decode of absorbed MLA on AMX tiles. The cache holds one row a token that is both K and, in its head,
// V:
//   S^T [tokens, heads] = K Q^T   with rows of the cache as A tiles, as they are, and Q packed once;
//   O [heads, v_dim] += P V       with P transposed, and V interleaved to B tiles.
// A chunk of tokens goes through two stages, in which the vector units work beside the tile unit:
//   S, block by block of 32 tokens and 32 heads, while the scores of the block before, which never leave L1,
//   become P, and fp8 rows of the block after are widened;
//   P V, while the tiles multiplied before are added to O, and the next columns of V are interleaved.
// Tiles are loaded so that one operand of a product stays in L1 and the other, streaming through from L2,
// does not displace it.
#include "kernels/cpu/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>
#include <cmath>

#include "kernels/cpu/amx_blocks.hpp"
#include "kernels/cpu/mla_rows.hpp"
#include "kernels/cpu/mla_softmax.hpp"
#include "kernels/cpu/mla_workspace.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu {
namespace {

using amx::Tiles;
using mla::Block, mla::Blocks, mla::Softmax, mla::Spread, mla::Workspace;
using mla::block_tokens, mla::tile_bytes, mla::tile_floats;
constexpr float infinity = std::numeric_limits<float>::infinity();

Workspace arrays(const UnitShape& shape, std::byte* workspace) {
  Carver carver(workspace);
  return Workspace(carver, shape);
}

enum class Once { a, b };  // which operand is not used again soon

/// Tiles 0 to 3 += A B, a block of one by two or four or of two by one or two tiles. start(i) begins sum i
/// just before its first product; each_step(k, whether it is the first) is the vector work beside each of
/// `steps`.
template <int kRows, int kColumns, Once kOnce, typename Start, typename EachStep>
HELIX_ALWAYS_INLINE void multiply(const Tiles& a, const Tiles& b, std::int64_t steps, const Start& start,
                                  const EachStep& each_step) {
  constexpr int a_tiles = kColumns > 2 ? 1 : 2, b_tiles = 4 - a_tiles;
  const auto step = [&](std::int64_t k, auto first) __attribute__((always_inline)) {
    const auto load_a = [&](auto i) __attribute__((always_inline)) {
      constexpr int tile = 4 + i() % a_tiles;
      kOnce == Once::a ? amx::load_once<tile>(a.at(i, k), a.row) : amx::load<tile>(a.at(i, k), a.row);
    };
    const auto load_b = [&](auto j) __attribute__((always_inline)) {
      constexpr int tile = 4 + a_tiles + j() % b_tiles;
      kOnce == Once::b ? amx::load_once<tile>(b.at(j, k), b.row) : amx::load<tile>(b.at(j, k), b.row);
    };
    if constexpr (kColumns <= b_tiles) amx::unrolled<kColumns>(load_b);
    amx::unrolled<kRows>([&](auto i) __attribute__((always_inline)) {
      load_a(i);
      amx::unrolled<kColumns>([&](auto j) __attribute__((always_inline)) {
        if constexpr (kColumns > b_tiles) load_b(j);
        constexpr int sum = i() * kColumns + j();
        if constexpr (first()) start(std::integral_constant<int, sum>());
        amx::multiply_add<sum, 4 + i() % a_tiles, 4 + a_tiles + j() % b_tiles>();
      });
    });
    each_step(k, first);
  };
  amx::publish();
  step(0, std::true_type());
  for (std::int64_t k = 1; k < steps; ++k) step(k, std::false_type());
}

/// Sums that tiles 0 to 3 hold and are yet to be stored. A tile store is many micro-operations that wait for
/// the tile's last product: each is left until just before the first product of the tile's next sum, so that
/// the tile unit is busy meanwhile.
class PendingSums {
 public:
  template <int kTile>
  HELIX_ALWAYS_INLINE void store() {
    if (to_[kTile] != nullptr) amx::store<kTile>(to_[kTile], 64);
    to_[kTile] = nullptr;
  }
  template <int kFirst = 0>
  HELIX_ALWAYS_INLINE void store_from() {
    amx::unrolled<4 - kFirst>([&](auto i) __attribute__((always_inline)) { store<kFirst + i()>(); });
  }
  template <int kRows, int kColumns>
  HELIX_ALWAYS_INLINE void leave(const Tiles& c) {
    for (int i = 0; i < kRows * kColumns; ++i)
      to_[i] = const_cast<std::byte*>(c.at(i / kColumns, i % kColumns));
  }

 private:
  std::byte* to_[4] = {};
};

/// The first stage: P of all heads. `rows`: of `blocks` in bf16; fp8 is widened to there a block ahead.
template <bool kFp8>
void probabilities(const UnitShape& shape, const Workspace& ws, const Blocks& blocks, const Blocks& rows,
                   Prefetcher& next) {
  const mla::WidenRows widen(shape.layout);
  const std::int64_t widen_pieces = kFp8 ? widen.pieces() : 0;
  for (std::int64_t piece = 0; piece < widen_pieces; ++piece) widen.work(blocks.at[0], rows.at[0], piece);

  Softmax softmax;
  PendingSums pending;
  float* scores = ws.scores;
  const std::int64_t pairs = (ws.head_tiles + 1) / 2, q_tiles = ws.k_steps * tile_bytes;
  for (std::int64_t block = 0; block < blocks.count; ++block) {
    const Block& tokens = rows.at[block];
    Spread widening(block + 1 < blocks.count ? widen_pieces : 0, pairs * ws.k_steps);
    const Tiles a{tokens.k[0], 64, tokens.k[1] - tokens.k[0], tile_bytes};
    for (std::int64_t h = 0; h < ws.head_tiles; h += 2) {
      Spread softening(softmax.pieces(), ws.k_steps - 1);
      const auto start = [&](auto sum) __attribute__((always_inline)) {
        pending.store<sum()>();
        amx::zero<sum()>();
      };
      const auto each_step = [&](std::int64_t, auto first) __attribute__((always_inline)) {
        if constexpr (first()) {
          softmax.mask();
        } else {
          softening.step([&](std::int64_t piece)
                             __attribute__((always_inline)) { softmax.work(ws, shape.scale_log2, piece); });
        }
        if constexpr (kFp8)
          widening.step([&](std::int64_t piece) __attribute__((always_inline)) {
            widen.work(blocks.at[block + 1], rows.at[block + 1], piece);
          });
        next.step();
      };
      const Tiles b{ws.q + h * q_tiles, 64, q_tiles, tile_bytes};
      const Tiles c{scores, 64, tile_bytes, 2 * tile_bytes};
      const std::int64_t head_tiles = std::min<std::int64_t>(2, ws.head_tiles - h);
      if (head_tiles == 2) {
        multiply<2, 2, Once::b>(a, b, ws.k_steps, start, each_step);
        pending.leave<2, 2>(c);
      } else {
        pending.store_from<2>();
        multiply<2, 1, Once::a>(a, b, ws.k_steps, start, each_step);
        pending.leave<2, 1>(c);
      }
      softmax.start(scores, tokens, h, head_tiles, block);
      scores = scores == ws.scores ? ws.scores + 4 * tile_floats : ws.scores;
    }
  }
  pending.store_from<0>();
  softmax.mask();
  for (std::int64_t piece = 0; piece < softmax.pieces(); ++piece) softmax.work(ws, shape.scale_log2, piece);
}

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
    const Tiles a{ws_.p_of(h, 0), 64, across, tile_bytes};
    const Tiles b{ws_.v, 64, across, tile_bytes};
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
    multiply<kRows, kColumns, Once::a>(
        a, b, rows_.count, start, [&](std::int64_t block, auto) __attribute__((always_inline)) {
          if (replaces_v) interleave(next_v_tile, block);
          fetch.step([&](std::int64_t line)
                         __attribute__((always_inline)) { __builtin_prefetch(next_o + 64 * line, 1, 3); });
          next_.step();
        });
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
  std::int64_t longest_chunk(const UnitShape& shape) const override { return mla::longest_chunk(shape); }

  std::size_t workspace_bytes(const UnitShape& shape) const override {
    Carver carver(nullptr);
    Workspace(carver, shape);
    return carver.used();
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
    shape.layout.fp8 ? probabilities<true>(shape, ws, blocks, rows, next)
                     : probabilities<false>(shape, ws, blocks, rows, next);
    AddValues(ws, rows, next).add_all();
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    amx::release();
    const Workspace ws = arrays(shape, workspace);
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const std::int64_t tile = h / ws.tile_heads, lane = h % ws.tile_heads, at = 16 * tile + lane;
      lse2[h] = ws.reference[at] * shape.scale_log2 + std::log2(ws.sum[at]);
      // Dividing by the rounded sum cancels the rounding of probabilities that are alike. Zero: all scores
      // -inf.
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
