// Flash-decode of GQA on AMX tiles: S [heads, tokens] = Q K^T and O [heads, v_dim] += P V. The pages hold K
// and V as the B operands of these products (kv_layout.hpp), so tiles are loaded straight from the cache; fp8
// pages are widened into L1 first. A tile of A has as many rows as a unit has query heads (its time is
// proportional to them), up to 16; more heads take several tiles.
#include "kernels/cpu/amx.hpp"

#if HELIX_HAVE_AMX
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/amx_blocks.hpp"
#include "kernels/cpu/avx512.hpp"
#include "kernels/cpu/chunk_kernel.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")

namespace helix::cpu {
namespace {

using amx::Tiles;
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t value_group = 64;  // columns of V copied at a time

struct AmxWorkspace {
  // Rows must not alias in L1.
  static constexpr std::int64_t score_stride = chunk_tokens + 16, p_stride = chunk_tokens + 32;

  std::int64_t head_tiles,
      tile_heads;                // tiles of query heads, and heads in each; the last may have unused rows
  std::int64_t k_values;         // of a segment's K
  std::uint16_t *q, *p, *k, *v;  // q: [head_tiles][head_dim / 32][tile_heads][32]
  float *scores, *o;
  float* max;                // of the unscaled scores
  float *sum, *rounded_sum;  // of the probabilities, and of what bf16 holds of them

  AmxWorkspace(Carver& carver, const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    head_tiles = (shape.heads + 15) / 16;
    tile_heads = (shape.heads + head_tiles - 1) / head_tiles;
    q = carver.take<std::uint16_t>(rows() * layout.head_dim);
    p = carver.take<std::uint16_t>(rows() * p_stride);
    const std::int64_t slots = std::min(layout.padded_tokens, chunk_tokens);
    k_values = layout.fp8 ? slots * layout.head_dim : 0;
    k = carver.take<std::uint16_t>(2 * k_values);
    v = carver.take<std::uint16_t>(head_tiles == 1 ? 2 * slots * value_group : chunk_tokens * value_group);
    scores = carver.take<float>(rows() * score_stride);
    o = carver.take<float>(rows() * layout.v_dim);
    max = carver.take<float>(shape.heads);
    sum = carver.take<float>(shape.heads);
    rounded_sum = carver.take<float>(shape.heads);
  }
  std::int64_t rows() const { return head_tiles * tile_heads; }
};

AmxWorkspace arrays(const UnitShape& shape, std::byte* workspace) {
  Carver carver(workspace);
  return AmxWorkspace(carver, shape);
}

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

void configure(const AmxWorkspace& ws, std::int64_t summed) {
  amx::configure_blocks(ws.head_tiles == 1 ? amx::Shape::wide : amx::Shape::square, ws.tile_heads, summed);
}

/// Tiles of fp8 words -> tiles of bf16 pairs.
void widen_tiles(const std::byte* from, std::int64_t values, const Widen& widen, std::uint16_t* to) {
  for (std::int64_t i = 0; i < values; i += 64) widen(from + i, to + i, to + i + 32);
}

void scores_of_segment(const UnitShape& shape, const AmxWorkspace& ws, const Segment& s,
                       const std::byte* pairs, Prefetcher& next) {
  const KvLayout& layout = shape.layout;
  const std::int64_t steps = layout.head_dim / 32, q_tile = ws.tile_heads * 64;
  const std::int64_t tiles = s.slots / 16;
  for (std::int64_t h = 0; h < ws.head_tiles; h += 2)
    for (std::int64_t t = 0; t < tiles;) {
      const Tiles a{ws.q + h * steps * q_tile / 2, 64, steps * q_tile, q_tile};
      const std::int64_t group = layout.head_dim * 32;  // bytes of 16 tokens
      const Tiles b{pairs + t * group, 64, group, 1024};
      const Tiles c{ws.scores + h * ws.tile_heads * ws.score_stride + s.column + t * 16, ws.score_stride * 4,
                    ws.tile_heads * ws.score_stride * 4, 64};
      t += with_block(h, ws.head_tiles, t, tiles, [&](auto shape_of_block, auto rows, auto columns) {
        amx::zero_sums<rows() * columns()>();
        amx::multiply<shape_of_block(), rows(), columns()>(a, b, steps, [&] { next.step(); });
        amx::store_sums<rows(), columns()>(c);
      });
    }
  if (s.valid < s.slots)
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      float* const scores = ws.scores + h * ws.score_stride + s.column;
      std::fill(scores + s.valid, scores + s.slots, -infinity);
    }
}

void scores_of_chunk(const UnitShape& shape, const Chunk& chunk, const AmxWorkspace& ws, const Widen& widen,
                     Prefetcher& next) {
  const auto widened = [&](int i) { return ws.k + i % 2 * ws.k_values; };
  const auto widen_segment = [&](int i) {
    if (!shape.layout.fp8 || i == chunk.count) return;
    const Segment& s = chunk.segments[i];
    widen_tiles(s.k, s.slots * shape.layout.head_dim, widen, widened(i));
  };
  widen_segment(0);
  for (int i = 0; i < chunk.count; ++i) {
    const Segment& s = chunk.segments[i];
    widen_segment(i + 1);
    const std::byte* const pairs = shape.layout.fp8 ? reinterpret_cast<const std::byte*>(widened(i)) : s.k;
    scores_of_segment(shape, ws, s, pairs, next);
  }
}

/// Scores of head h -> bf16 probabilities relative to the new maximum; returns the factor for earlier sums.
float softmax_row(const AmxWorkspace& ws, std::int64_t h, std::int64_t columns, float scale_log2,
                  Prefetcher& next) {
  const float* const scores = ws.scores + h * ws.score_stride;
  std::uint16_t* const p = ws.p + h * ws.p_stride;
  __m512 top = _mm512_set1_ps(ws.max[h]);
  for (std::int64_t t = 0; t < columns; t += 16) top = _mm512_max_ps(top, _mm512_loadu_ps(scores + t));
  const float new_max = max_of_lanes(top);
  const float reference = new_max == -infinity ? 0.0f : new_max;
  __m512 total = _mm512_setzero_ps(), rounded_total = _mm512_setzero_ps();
  for (std::int64_t t = 0; t < columns; t += 16) {
    if (t % 64 == 0) next.step();
    const __m512 x = _mm512_sub_ps(_mm512_loadu_ps(scores + t), _mm512_set1_ps(reference));
    const __m512 exact = exp2_avx512(_mm512_mul_ps(x, _mm512_set1_ps(scale_log2)));
    const __m256bh rounded = _mm512_cvtneps_pbh(exact);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + t), reinterpret_cast<__m256i>(rounded));
    total = _mm512_add_ps(total, exact);
    rounded_total = _mm512_add_ps(rounded_total, as_floats(rounded));
  }
  const float factor = std::exp2((ws.max[h] - reference) * scale_log2);
  ws.sum[h] = ws.sum[h] * factor + sum_of_lanes(total);
  ws.rounded_sum[h] = ws.rounded_sum[h] * factor + sum_of_lanes(rounded_total);
  ws.max[h] = new_max;
  return factor;
}

/// Tiles of `width` columns of a segment's V from d on as bf16, [slots / granule][width / 16], fp8 widened
/// and slots past the valid ones zero: they may be NaN, and 0 * NaN is NaN.
void copy_values(const KvLayout& layout, const Segment& s, std::int64_t d, std::int64_t width,
                 const Widen& widen, std::uint16_t* to) {
  const std::int64_t granule = layout.granule, values = granule * width;
  for (std::int64_t t = 0; t < s.slots; t += granule) {
    const std::byte* const from = s.v + layout.v_offset(t, d);
    std::uint16_t* const out = to + t * width;
    if (layout.fp8) {
      widen_tiles(from, values, widen, out);
    } else {
      std::copy_n(from, 2 * values, reinterpret_cast<std::byte*>(out));
    }
  }
  for (std::int64_t t = s.valid; t < s.slots; ++t)
    for (std::int64_t i = 0; i < width; ++i)
      to[t / granule * values + i / 16 * 16 * granule + t % granule / 2 * 32 + i % 16 * 2 + t % 2] = 0;
}

/// O += P V. V that cannot be used as it is is copied: for one tile of heads a segment ahead of its use, so
/// that only two segments of it are ever in L1; for more a whole chunk first, which all of them use.
void add_values(const UnitShape& shape, const Chunk& chunk, const AmxWorkspace& ws, const Widen& widen,
                Prefetcher& next) {
  const KvLayout& layout = shape.layout;
  const std::int64_t v_dim = layout.v_dim;
  const std::int64_t granule = layout.granule, tile = granule * 32;  // bytes
  const std::int64_t slots = std::min(layout.padded_tokens, chunk_tokens);
  const bool one_by_one = ws.head_tiles == 1;
  const auto is_copied = [&](const Segment& s) { return layout.fp8 || s.valid < s.slots; };
  const auto copy_of = [&](int i) {
    return ws.v + (one_by_one ? i % 2 * slots : chunk.segments[i].column) * value_group;
  };
  for (std::int64_t d = 0; d < v_dim; d += value_group) {
    const std::int64_t width = std::min(value_group, v_dim - d);
    const auto copy = [&](int i) {
      if (i < chunk.count && is_copied(chunk.segments[i]))
        copy_values(layout, chunk.segments[i], d, width, widen, copy_of(i));
    };
    for (int i = 0; i < (one_by_one ? 1 : chunk.count); ++i) copy(i);
    for (std::int64_t h = 0; h < ws.head_tiles; h += 2)
      for (std::int64_t column = 0; column < width / 16;) {
        const Tiles c{ws.o + h * ws.tile_heads * v_dim + d + column * 16, v_dim * 4,
                      ws.tile_heads * v_dim * 4, 64};
        column += with_block(h, ws.head_tiles, column, width / 16, [&](auto block, auto rows, auto columns) {
          amx::load_sums<rows(), columns()>(c);
          for (int i = 0; i < chunk.count; ++i) {
            if (one_by_one) copy(i + 1);
            const Segment& s = chunk.segments[i];
            const bool copied = is_copied(s);
            const std::byte* const pairs =
                copied ? reinterpret_cast<const std::byte*>(copy_of(i)) : s.v + d / 16 * tile;
            const Tiles a{ws.p + h * ws.tile_heads * ws.p_stride + s.column, ws.p_stride * 2,
                          ws.tile_heads * ws.p_stride * 2, granule * 2};
            const Tiles b{pairs + column * tile, 64, tile, (copied ? width : v_dim) / 16 * tile};
            amx::multiply<block(), rows(), columns()>(a, b, s.slots / granule, [&] { next.step(); });
          }
          amx::store_sums<rows(), columns()>(c);
        });
      }
  }
}

class AmxChunkKernel final : public ChunkKernel {
 public:
  std::size_t workspace_bytes(const UnitShape& shape) const override {
    Carver carver(nullptr);
    AmxWorkspace(carver, shape);
    return carver.used();
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const AmxWorkspace ws = arrays(shape, workspace);
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
    std::fill_n(ws.max, shape.heads, -infinity);
    std::fill_n(ws.sum, shape.heads, 0.0f);
    std::fill_n(ws.rounded_sum, shape.heads, 0.0f);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    const AmxWorkspace ws = arrays(shape, workspace);
    const std::int64_t v_dim = shape.layout.v_dim;
    const Widen widen;
    const std::int64_t tile_products =
        ws.head_tiles * chunk.columns / 16 * (shape.layout.head_dim / 32 + v_dim / shape.layout.granule);
    const std::int64_t softmax_steps = shape.heads * ((chunk.columns + 63) / 64);
    next.plan(tile_products + softmax_steps);
    configure(ws, 32);
    scores_of_chunk(shape, chunk, ws, widen, next);
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const float factor = softmax_row(ws, h, chunk.columns, shape.scale_log2, next);
      if (factor == 1.0f) continue;
      for (std::int64_t d = 0; d < v_dim; ++d) ws.o[h * v_dim + d] *= factor;
    }
    if (shape.layout.granule != 32) configure(ws, shape.layout.granule);
    add_values(shape, chunk, ws, widen, next);
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    amx::release();
    const AmxWorkspace ws = arrays(shape, workspace);
    const std::int64_t v_dim = shape.layout.v_dim;
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      lse2[h] = ws.max[h] * shape.scale_log2 + std::log2(ws.sum[h]);
      // Dividing by the rounded sum cancels the rounding of probabilities that are alike. Zero: all scores
      // -inf.
      const float factor = ws.rounded_sum[h] == 0.0f ? 0.0f : 1.0f / ws.rounded_sum[h];
      for (std::int64_t d = 0; d < v_dim; ++d) o[h * v_dim + d] = ws.o[h * v_dim + d] * factor;
    }
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
