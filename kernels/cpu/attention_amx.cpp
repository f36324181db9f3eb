// Flash-decode of GQA on AMX tiles: S [heads, tokens] = Q K^T and O [heads, v_dim] += P V. The pages hold K
// and V as the B operands of these products (kv_layout.hpp): bf16 tiles are loaded straight from the cache,
// fp8 tiles are widened into a ring in L1 a little ahead of their use. A tile of A has as many rows as a unit
// has query heads (its time is proportional to them), up to 16; more heads take several tiles.
#include "kernels/cpu/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <utility>

#include "kernels/cpu/gqa_softmax.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu {
namespace {

using amx::Tiles;
using gqa::chunk_tiles, gqa::infinity;
using gqa::PlainTiles, gqa::WidenedTiles, gqa::Workspace;

/// body(block shape, rows, columns, as constants) for a block at row `r` of `rows` tiles and column `c` of
/// `columns`: two by two, or one by four where there is but one row; returns the block's columns.
template <typename Body>
std::int64_t with_block(std::int64_t r, std::int64_t rows, std::int64_t c, std::int64_t columns,
                        const Body& body) {
  using amx::Shape;
  constexpr std::integral_constant<int, 1> one;
  constexpr std::integral_constant<int, 2> two;
  if (rows == 1) {
    constexpr std::integral_constant<Shape, Shape::wide> wide;
    switch (std::min<std::int64_t>(4, columns - c)) {
      case 1:
        return body(wide, one, one), 1;
      case 2:
        return body(wide, one, two), 2;
      case 3:
        return body(wide, one, std::integral_constant<int, 3>()), 3;
      default:
        return body(wide, one, std::integral_constant<int, 4>()), 4;
    }
  }
  constexpr std::integral_constant<Shape, Shape::square> square;
  if (r + 1 < rows)
    c + 1 < columns ? body(square, two, two) : body(square, two, one);
  else
    c + 1 < columns ? body(square, one, two) : body(square, one, one);
  return std::min<std::int64_t>(2, columns - c);
}

void configure(const Workspace& ws, std::int64_t summed) {
  amx::configure_blocks(ws.head_tiles == 1 ? amx::Shape::wide : amx::Shape::square, ws.tile_heads, summed);
}

/// C tiles [head_tiles][columns] of a product whose B tile (column, step) is at `b(column, step)`: set to it
/// (kAdd false) or increased by it. a, c: of the first head tile; c goes down by head tiles, right by
/// columns.
template <typename BTiles, bool kAdd, typename BTile>
void multiply_chunk(const Workspace& ws, const Tiles& a, std::int64_t steps, std::int64_t columns,
                    std::int64_t tile_values, const BTile& b, const Tiles& c, Prefetcher& next) {
  const std::byte** end = ws.order;
  for (std::int64_t first = 0; first < columns; first += ws.block_columns())
    for (std::int64_t k = 0; k < steps; ++k)
      for (std::int64_t j = first; j < std::min(columns, first + ws.block_columns()); ++j) *end++ = b(j, k);
  std::fill_n(end, WidenedTiles::lead, end[-1]);
  for (std::int64_t h = 0; h < ws.head_tiles; h += 2) {
    BTiles tiles(ws.order, tile_values, ws.ring);
    for (std::int64_t column = 0; column < columns;) {
      const Tiles a_block{a.at(h, 0), a.row, a.across, a.along},
          c_block{c.at(h, column), c.row, c.across, c.along};
      column += with_block(h, ws.head_tiles, column, columns, [&](auto shape, auto rows, auto block_columns) {
        if constexpr (kAdd)
          amx::load_sums<rows(), block_columns()>(c_block);
        else
          amx::zero_sums<rows() * block_columns()>();
        amx::multiply<shape(), rows(), block_columns()>(
            a_block, steps, [&]() __attribute__((always_inline)) {
              next.step();
              return tiles.next();
            });
        amx::store_sums<rows(), block_columns()>(c_block);
      });
    }
  }
}

template <typename BTiles>
void scores_of_chunk(const UnitShape& shape, const Chunk& chunk, const Workspace& ws, Prefetcher& next) {
  const KvLayout& layout = shape.layout;
  const std::int64_t steps = layout.head_dim / 32, q_tile = ws.tile_heads * 64;
  const std::int64_t k_tile = 512 * static_cast<std::int64_t>(layout.value_bytes);
  const std::byte* tokens[chunk_tiles];
  for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s)
    for (std::int64_t t = 0; t < s->slots; t += 16)
      tokens[(s->column + t) / 16] = s->k + t / 16 * steps * k_tile;
  multiply_chunk<BTiles, false>(
      ws, {ws.q, 64, steps * q_tile, q_tile}, steps, chunk.columns / 16, 512,
      [&](std::int64_t j, std::int64_t k) { return tokens[j] + k * k_tile; },
      {ws.scores, ws.score_stride * 4, ws.tile_heads * ws.score_stride * 4, 64}, next);
  for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s) {
    if (s->valid == s->slots) continue;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      float* const scores = ws.scores + h * ws.score_stride + s->column;
      std::fill(scores + s->valid, scores + s->slots, -infinity);
    }
  }
}

/// A granule of V of which only `valid` slots are: the others are zero, since they may be NaN, and 0 * NaN is
/// NaN. A 64-byte row of its tiles holds the same slots in each of 16 words, so one mask does for all tiles.
void copy_partial(const KvLayout& layout, const std::byte* from, std::int64_t valid, std::byte* to) {
  constexpr std::size_t row_bytes = 64, most_rows = 16;
  std::array<std::array<std::uint8_t, 4>, most_rows> kept{};
  for (std::int64_t t = 0; t < valid; ++t) {
    const std::size_t at = layout.v_offset(t, 0);
    std::fill_n(&kept[at / row_bytes][at % row_bytes], layout.value_bytes, std::uint8_t{0xff});
  }
  const std::size_t rows = static_cast<std::size_t>(layout.granule) * layout.value_bytes / 4;
  const std::size_t all_rows = rows * static_cast<std::size_t>(layout.v_dim / 16);
  for (std::size_t r = 0; r < all_rows; ++r) {
    const __m512i mask = _mm512_set1_epi32(std::bit_cast<int>(kept[r % rows]));
    _mm512_storeu_si512(to + r * row_bytes, _mm512_and_si512(mask, _mm512_loadu_si512(from + r * row_bytes)));
  }
}

/// O += P V.
template <typename BTiles>
void add_values(const UnitShape& shape, const Chunk& chunk, const Workspace& ws, Prefetcher& next) {
  const KvLayout& layout = shape.layout;
  const std::int64_t granule = layout.granule, tile_values = granule * 16;
  const std::int64_t v_tile = tile_values * static_cast<std::int64_t>(layout.value_bytes);
  const std::int64_t granule_bytes = layout.v_dim / 16 * v_tile;
  const std::byte* tokens[chunk_tiles];
  std::byte* partial = ws.partial;
  for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s)
    for (std::int64_t t = 0; t < s->slots; t += granule) {
      const std::byte*& at = tokens[(s->column + t) / granule];
      at = s->v + t / granule * granule_bytes;
      if (t + granule <= s->valid) continue;
      copy_partial(layout, at, s->valid - t, partial);
      at = std::exchange(partial, partial + granule_bytes);
    }
  multiply_chunk<BTiles, true>(
      ws, {ws.p, ws.p_stride * 2, ws.tile_heads * ws.p_stride * 2, granule * 2}, chunk.columns / granule,
      layout.v_dim / 16, tile_values, [&](std::int64_t j, std::int64_t k) { return tokens[k] + j * v_tile; },
      {ws.o, layout.v_dim * 4, ws.tile_heads * layout.v_dim * 4, 64}, next);
}

class AmxChunkKernel final : public ChunkKernel {
 public:
  std::size_t workspace_bytes(const UnitShape& shape) const override {
    Carver carver(nullptr);
    Workspace(carver, shape);
    return carver.used();
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const Workspace ws = gqa::arrays(shape, workspace);
    const std::int64_t steps = shape.layout.head_dim / 32;
    std::uint16_t* to = ws.q;
    for (std::int64_t tile = 0; tile < ws.head_tiles; ++tile)
      for (std::int64_t k = 0; k < steps; ++k)
        for (std::int64_t h = tile * ws.tile_heads; h < (tile + 1) * ws.tile_heads; ++h)
          for (std::int64_t d = 32 * k; d < 32 * (k + 1); ++d)
            *to++ = h < shape.heads ? q[h * shape.layout.head_dim + d].bits : std::uint16_t{0};
    // Unused rows stay zero.
    std::fill_n(ws.p, ws.rows() * ws.p_stride, std::uint16_t{0});
    std::fill_n(ws.o, ws.rows() * shape.layout.v_dim, 0.0f);
    std::fill_n(ws.max, ws.head_tiles * 16, -infinity);
    for (float* zero : {ws.factor, ws.sum, ws.rounded_sum}) std::fill_n(zero, ws.head_tiles * 16, 0.0f);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    shape.layout.fp8 ? process<WidenedTiles>(shape, chunk, next, workspace)
                     : process<PlainTiles>(shape, chunk, next, workspace);
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    amx::release();
    const Workspace ws = gqa::arrays(shape, workspace);
    const std::int64_t v_dim = shape.layout.v_dim;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      lse2[h] = ws.max[h] * shape.scale_log2 + std::log2(ws.sum[h]);
      // Dividing by the rounded sum cancels the rounding of probabilities that are alike. Zero: all scores
      // -inf.
      const float factor = ws.rounded_sum[h] == 0.0f ? 0.0f : 1.0f / ws.rounded_sum[h];
      for (std::int64_t d = 0; d < v_dim; ++d) o[h * v_dim + d] = ws.o[h * v_dim + d] * factor;
    }
  }

 private:
  template <typename BTiles>
  static void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next, std::byte* workspace) {
    const Workspace ws = gqa::arrays(shape, workspace);
    const std::int64_t v_dim = shape.layout.v_dim;
    const std::int64_t tile_products = (ws.head_tiles + 1) / 2 * chunk.columns / 16 *
                                       (shape.layout.head_dim / 32 + v_dim / shape.layout.granule);
    const std::int64_t softmax_steps = shape.heads * ((chunk.columns + 63) / 64);
    next.plan(tile_products + softmax_steps);
    configure(ws, 32);
    scores_of_chunk<BTiles>(shape, chunk, ws, next);
    gqa::softmax(shape, ws, chunk.columns, next);
    if (shape.layout.granule != 32) configure(ws, shape.layout.granule);
    add_values<BTiles>(shape, chunk, ws, next);
  }
};

}  // namespace

const ChunkKernel& amx_chunk_kernel() {
  static const AmxChunkKernel kernel;
  return kernel;
}

}  // namespace helix::cpu

#pragma GCC pop_options
#endif
