// Flash-decode of absorbed MLA on AMX tiles. The cache holds one row a token that is both K and, in its head,
// V:
//   S^T [tokens, heads] = K Q^T   with rows of the cache as A tiles, as they are, and Q packed once;
//   O [heads, v_dim] += P V       with P transposed, and V interleaved to B tiles by one shuffle a vector, a
//   few columns
//                                 at a time so that they stay in L1.
// Interleaving works within 128-bit lanes, so the columns of O come in another order until `finish`.
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
constexpr std::int64_t tile_bytes = 1024;
constexpr std::int64_t block_tokens = 32;  // summed by one tile product of P V
constexpr std::int64_t chunk_blocks = chunk_tokens / block_tokens;
struct MlaWorkspace {
  std::int64_t head_tiles, tile_heads;
  std::int64_t k_steps;
  std::int64_t v_group;  // tiles of V interleaved at a time: those in one tile of the cache
  std::int64_t
      v_tiles;    // a multiple of v_group; columns past v_dim are computed from what is there and not used
  std::byte* q;   // tiles [head_tiles][k_steps], 16 pairs of a row by 16 heads
  float* scores;  // [head_tiles][chunk_tokens][16 heads]
  std::byte* p;   // tiles [head_tiles][chunk_blocks], 16 heads by 32 tokens
  std::byte* v;   // tiles [chunk_blocks][v_group], 16 pairs of tokens by 16 columns
  float* o;       // tiles [head_tiles][v_tiles], 16 heads by 16 columns
  std::uint16_t* rows;                   // fp8: a block's rows widened
  float *reference, *sum, *rounded_sum;  // [head_tiles][16]; reference: of the unscaled scores

  MlaWorkspace(Carver& carver, const UnitShape& shape) {
    const KvLayout& layout = shape.layout;
    head_tiles = (shape.heads + 15) / 16;
    tile_heads = (shape.heads + head_tiles - 1) / head_tiles;
    k_steps = layout.head_dim / 32;
    v_group = layout.fp8 ? 4 : 2;
    v_tiles = (layout.v_dim / 16 + v_group - 1) / v_group * v_group;
    q = carver.take<std::byte>(head_tiles * k_steps * tile_bytes);
    scores = carver.take<float>(head_tiles * chunk_tokens * 16);
    p = carver.take<std::byte>(head_tiles * chunk_blocks * tile_bytes);
    v = carver.take<std::byte>(v_group * chunk_blocks * tile_bytes);
    o = carver.take<float>(head_tiles * v_tiles * 256);
    rows = carver.take<std::uint16_t>(layout.fp8 ? block_tokens * layout.head_dim : 0);
    reference = carver.take<float>(head_tiles * 16);
    sum = carver.take<float>(head_tiles * 16);
    rounded_sum = carver.take<float>(head_tiles * 16);
  }
  float* scores_of(std::int64_t head_tile, std::int64_t column) const {
    return scores + (head_tile * chunk_tokens + column) * 16;
  }
  float* o_of(std::int64_t head_tile, std::int64_t v_tile) const {
    return o + (head_tile * v_tiles + v_tile) * 256;
  }
  /// The group of V's tiles of one block.
  std::byte* v_of(std::int64_t slot) const { return v + slot * v_group * tile_bytes; }
};

MlaWorkspace arrays(const UnitShape& shape, std::byte* workspace) {
  Carver carver(workspace);
  return MlaWorkspace(carver, shape);
}

/// 16 rows of fp8 tiles -> bf16 tiles.
void widen_rows(const KvLayout& layout, const std::byte* from, const Widen& widen, std::uint16_t* to) {
  std::int64_t d = 0;
  for (; d + 64 <= layout.head_dim; d += 64)
    for (std::int64_t t = 0; t < 16; ++t)
      widen(from + 16 * d + 64 * t, to + 16 * d + 32 * t, to + 16 * d + 512 + 32 * t);
  if (d < layout.head_dim)
    for (std::int64_t t = 0; t < 16; ++t)
      widen.half(from + 16 * d + 32 * t, to + 16 * d + 32 * t, to + 16 * d + 32 * t + 16);
}

/// 16 columns of a chunk: half a block.
struct Half {
  const std::byte* k = nullptr;
  std::int64_t valid = 0;  // rows from here on are garbage; <= 0: all
};

struct Halves {
  Half at[chunk_tokens / 16];
  std::int64_t count = 0;  // even

  Halves(const KvLayout& layout, const Chunk& chunk) {
    for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s)
      for (std::int64_t t = 0; t < s->slots; t += 16)
        at[count++] = {s->k + layout.k_offset(t, 0), s->valid - t};
    if (count % 2 == 1) {
      at[count] = {at[count - 1].k, 0};
      ++count;
    }
  }
};

/// Two rows of 32 values -> a row of pairs in each of two tiles of V.
void store_pairs(__m512i first, __m512i second, std::byte* to) {
  _mm512_store_si512(to, _mm512_unpacklo_epi16(first, second));
  _mm512_store_si512(to + tile_bytes, _mm512_unpackhi_epi16(first, second));
}

/// Group `group` of the tiles of V of a block in `slot` of ws.v; garbage rows are zero (they may be NaN, and
/// 0 * NaN is NaN).
void interleave_block(const MlaWorkspace& ws, const KvLayout& layout, const Half* block, std::int64_t group,
                      std::int64_t slot, const Widen& widen) {
  const std::int64_t first_dim = group * ws.v_group * 16;
  const std::int64_t row_bytes = layout.fp8 ? std::min<std::int64_t>(64, layout.head_dim - first_dim) : 64;
  const __mmask64 row = row_bytes == 64 ? ~0ull : (1ull << row_bytes) - 1;
  for (std::int64_t half = 0; half < 2; ++half) {
    const std::byte* const from =
        block[half].k + static_cast<std::size_t>(first_dim * 16) * layout.value_bytes;
    const std::int64_t valid = block[half].valid;
    std::byte* const to = ws.v_of(slot) + half * tile_bytes / 2;
    for (std::int64_t t = 0; t < 16; t += 2) {
      const __m512i a = _mm512_maskz_loadu_epi8(t < valid ? row : 0, from + t * row_bytes);
      const __m512i b = _mm512_maskz_loadu_epi8(t + 1 < valid ? row : 0, from + (t + 1) * row_bytes);
      if (!layout.fp8) {
        store_pairs(a, b, to + 32 * t);
        continue;
      }
      const Widen::Parts first = widen.split(a), second = widen.split(b);
      if (row_bytes == 64) {
        store_pairs(first.even, second.even, to + 32 * t);
        store_pairs(first.odd, second.odd, to + 2 * tile_bytes + 32 * t);
      } else {  // the two parts are halves of a row of 32 values
        store_pairs(_mm512_inserti64x4(first.even, _mm512_castsi512_si256(first.odd), 1),
                    _mm512_inserti64x4(second.even, _mm512_castsi512_si256(second.odd), 1), to + 32 * t);
      }
    }
  }
}

/// Scores of up to 32 tokens of a segment for all heads.
template <typename EachStep>
void scores_of_block(const UnitShape& shape, const MlaWorkspace& ws, const std::byte* k, std::int64_t column,
                     std::int64_t slots, const Widen& widen, const EachStep& each_step) {
  const KvLayout& layout = shape.layout;
  const auto* rows = reinterpret_cast<const std::uint16_t*>(k);
  if (layout.fp8) {
    for (std::int64_t t = 0; t < slots; t += 16)
      widen_rows(layout, k + t * layout.head_dim, widen, ws.rows + t * layout.head_dim);
    rows = ws.rows;
  }
  const std::int64_t q_tiles = ws.k_steps * tile_bytes;
  for (std::int64_t h = 0; h < ws.head_tiles; h += 2) {
    const Tiles a{rows, 64, layout.head_dim * 32, tile_bytes};
    const Tiles b{ws.q + h * q_tiles, 64, q_tiles, tile_bytes};
    const Tiles c{ws.scores_of(h, column), 64, tile_bytes, chunk_tokens * 64};
    const auto block = [&](auto token_tiles, auto head_tiles) {
      amx::zero_sums<token_tiles() * head_tiles()>();
      amx::multiply<amx::Shape::square, token_tiles(), head_tiles()>(a, b, ws.k_steps, each_step);
      amx::store_sums<token_tiles(), head_tiles()>(c);
    };
    constexpr std::integral_constant<int, 1> one;
    constexpr std::integral_constant<int, 2> two;
    const bool two_heads = h + 1 < ws.head_tiles;
    if (slots == block_tokens) {
      two_heads ? block(two, two) : block(two, one);
    } else {
      two_heads ? block(one, two) : block(one, one);
    }
  }
}

/// The bf16 of rows 2i and 2i + 1 of 16 lanes as pairs.
__m512i pair_rows(__m512 even, __m512 odd) {
  const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  alignas(64) static constexpr std::uint16_t interleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                               21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                               11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(interleave), halves);
}

/// Rows of 16 words -> columns.
void transpose(const __m512i (&x)[16], std::byte* to) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    a[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
  // b[4g + j]: column 4l + j of rows 4g to 4g + 3 in lane l.
  for (int g = 0; g < 16; g += 4) {
    b[g] = _mm512_unpacklo_epi64(a[g], a[g + 2]);
    b[g + 1] = _mm512_unpackhi_epi64(a[g], a[g + 2]);
    b[g + 2] = _mm512_unpacklo_epi64(a[g + 1], a[g + 3]);
    b[g + 3] = _mm512_unpackhi_epi64(a[g + 1], a[g + 3]);
  }
  for (int j = 0; j < 4; ++j) {
    const __m512i even_low = _mm512_shuffle_i32x4(b[j], b[4 + j], 0x88),
                  odd_low = _mm512_shuffle_i32x4(b[j], b[4 + j], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(b[8 + j], b[12 + j], 0xdd);
    _mm512_store_si512(to + 64 * j, _mm512_shuffle_i32x4(even_low, even_high, 0x88));
    _mm512_store_si512(to + 64 * (4 + j), _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
    _mm512_store_si512(to + 64 * (8 + j), _mm512_shuffle_i32x4(even_low, even_high, 0xdd));
    _mm512_store_si512(to + 64 * (12 + j), _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd));
  }
}

/// Scores of a tile of heads -> tiles of bf16 probabilities. They are relative to a reference that follows
/// the maximum only when that has grown by more than 2^8: P and the sums are floating point and lose nothing,
/// and O is rarely rescaled.
template <typename EachStep>
void softmax_tile(const UnitShape& shape, const MlaWorkspace& ws, std::int64_t head_tile,
                  std::int64_t columns, const EachStep& each_step) {
  const float* const scores = ws.scores_of(head_tile, 0);
  const __m512 scale = _mm512_set1_ps(shape.scale_log2), lowest = _mm512_set1_ps(-infinity);
  __m512 top = lowest;
  for (std::int64_t t = 0; t < columns; ++t) top = _mm512_max_ps(top, _mm512_load_ps(scores + 16 * t));
  float* const reference_at = ws.reference + 16 * head_tile;
  const __m512 old = _mm512_load_ps(reference_at);
  const __mmask16 grown =
      _mm512_cmp_ps_mask(_mm512_mul_ps(_mm512_sub_ps(top, old), scale), _mm512_set1_ps(8.0f), _CMP_GT_OQ);
  const __m512 reference = _mm512_mask_mov_ps(old, grown, top);
  _mm512_store_ps(reference_at, reference);
  // All scores -inf so far: any finite reference gives the zeros that are due.
  const __m512 finite =
      _mm512_mask_mov_ps(reference, _mm512_cmp_ps_mask(reference, lowest, _CMP_EQ_OQ), _mm512_setzero_ps());

  __m512 sum = _mm512_load_ps(ws.sum + 16 * head_tile),
         rounded_sum = _mm512_load_ps(ws.rounded_sum + 16 * head_tile);
  if (grown != 0) {
    const __m512 factor = exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(old, finite), scale));
    sum = _mm512_mul_ps(sum, factor);
    rounded_sum = _mm512_mul_ps(rounded_sum, factor);
    alignas(64) float factors[16];
    _mm512_store_ps(factors, factor);
    for (std::int64_t v_tile = 0; v_tile < ws.v_tiles; ++v_tile)
      for (std::int64_t h = 0; h < ws.tile_heads; ++h) {
        float* const o = ws.o_of(head_tile, v_tile) + 16 * h;
        _mm512_store_ps(o, _mm512_mul_ps(_mm512_load_ps(o), _mm512_set1_ps(factors[h])));
      }
  }

  const auto probability = [&](std::int64_t t) {
    return exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(scores + 16 * t), finite), scale));
  };
  for (std::int64_t block = 0; block < columns; block += block_tokens) {
    __m512i pairs[16];
    for (int i = 0; i < 16; ++i) {
      each_step();
      const __m512 even = probability(block + 2 * i), odd = probability(block + 2 * i + 1);
      sum = _mm512_add_ps(sum, _mm512_add_ps(even, odd));
      pairs[i] = pair_rows(even, odd);
      const __m512 even_rounded = _mm512_castsi512_ps(_mm512_slli_epi32(pairs[i], 16));
      const __m512 odd_rounded =
          _mm512_castsi512_ps(_mm512_and_si512(pairs[i], _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
      rounded_sum = _mm512_add_ps(rounded_sum, _mm512_add_ps(even_rounded, odd_rounded));
    }
    transpose(pairs, ws.p + (head_tile * chunk_blocks + block / block_tokens) * tile_bytes);
  }
  _mm512_store_ps(ws.sum + 16 * head_tile, sum);
  _mm512_store_ps(ws.rounded_sum + 16 * head_tile, rounded_sum);
}

/// Where P of tiles of heads from h on is, from a block on.
Tiles probabilities(const MlaWorkspace& ws, std::int64_t h, std::int64_t block) {
  return {ws.p + (h * chunk_blocks + block) * tile_bytes, 64, chunk_blocks * tile_bytes, tile_bytes};
}

/// O += P V for few heads: V is interleaved one block ahead of its use, and only two blocks of it are ever in
/// L1.
template <amx::Shape kShape, int kRows, int kColumns, typename EachStep>
void add_values_one_by_one(const MlaWorkspace& ws, const KvLayout& layout, const Halves& halves,
                           const Widen& widen, const EachStep& each_step) {
  const std::int64_t blocks = halves.count / 2, groups = ws.v_tiles / ws.v_group;
  const auto interleave = [&](std::int64_t i) {
    if (i < groups * blocks)
      interleave_block(ws, layout, halves.at + i % blocks * 2, i / blocks, i % 2, widen);
  };
  interleave(0);
  for (std::int64_t group = 0, i = 0; group < groups; ++group) {
    const Tiles c{ws.o_of(0, group * ws.v_group), 64, ws.v_tiles * tile_bytes, tile_bytes};
    amx::load_sums<kRows, kColumns>(c);
    for (std::int64_t block = 0; block < blocks; ++block, ++i) {
      interleave(i + 1);
      amx::multiply<kShape, kRows, kColumns>(probabilities(ws, 0, block), {ws.v_of(i % 2), 64, tile_bytes, 0},
                                             1, each_step);
    }
    amx::store_sums<kRows, kColumns>(c);
  }
}

/// O += P V for kRows tiles of heads from h on and a group of V, of which ws.v has all blocks.
template <int kRows, typename EachStep>
void add_group(const MlaWorkspace& ws, std::int64_t h, std::int64_t group, std::int64_t blocks,
               const EachStep& each_step) {
  for (std::int64_t tile = 0; tile < ws.v_group; tile += 2) {
    const Tiles b{ws.v + tile * tile_bytes, 64, tile_bytes, ws.v_group * tile_bytes};
    const Tiles c{ws.o_of(h, group * ws.v_group + tile), 64, ws.v_tiles * tile_bytes, tile_bytes};
    amx::load_sums<kRows, 2>(c);
    amx::multiply<amx::Shape::square, kRows, 2>(probabilities(ws, h, 0), b, blocks, each_step);
    amx::store_sums<kRows, 2>(c);
  }
}

/// O += P V for many heads: all of them use what was interleaved.
template <typename EachStep>
void add_values_by_group(const MlaWorkspace& ws, const KvLayout& layout, const Halves& halves,
                         const Widen& widen, const EachStep& each_step) {
  const std::int64_t blocks = halves.count / 2;
  for (std::int64_t group = 0; group < ws.v_tiles / ws.v_group; ++group) {
    for (std::int64_t block = 0; block < blocks; ++block)
      interleave_block(ws, layout, halves.at + 2 * block, group, block, widen);
    std::int64_t h = 0;
    for (; h + 2 <= ws.head_tiles; h += 2) add_group<2>(ws, h, group, blocks, each_step);
    if (h < ws.head_tiles) add_group<1>(ws, h, group, blocks, each_step);
  }
}

class AmxMlaChunkKernel final : public ChunkKernel {
 public:
  std::size_t workspace_bytes(const UnitShape& shape) const override {
    Carver carver(nullptr);
    MlaWorkspace(carver, shape);
    return carver.used();
  }

  void begin(const UnitShape& shape, const BF16* q, std::byte* workspace) const override {
    const MlaWorkspace ws = arrays(shape, workspace);
    auto* to = reinterpret_cast<std::uint16_t*>(ws.q);
    for (std::int64_t tile = 0; tile < ws.head_tiles; ++tile)
      for (std::int64_t d = 0; d < shape.layout.head_dim; d += 2)
        for (std::int64_t lane = 0; lane < 16; ++lane) {
          const std::int64_t h = tile * ws.tile_heads + lane;
          const bool used = lane < ws.tile_heads && h < shape.heads;
          for (std::int64_t i = 0; i < 2; ++i)
            *to++ = used ? q[h * shape.layout.head_dim + d + i].bits : std::uint16_t{0};
        }
    std::fill_n(ws.o, ws.head_tiles * ws.v_tiles * 256, 0.0f);
    std::fill_n(ws.reference, ws.head_tiles * 16, -infinity);
    std::fill_n(ws.sum, ws.head_tiles * 16, 0.0f);
    std::fill_n(ws.rounded_sum, ws.head_tiles * 16, 0.0f);
  }

  void process(const UnitShape& shape, const Chunk& chunk, Prefetcher& next,
               std::byte* workspace) const override {
    const MlaWorkspace ws = arrays(shape, workspace);
    const Widen widen;
    const std::int64_t columns = (chunk.columns + block_tokens - 1) / block_tokens * block_tokens;
    // Tile products: of S for 16 columns, of P V for 32; and a step for two rows of softmax.
    next.plan(columns / 32 * ws.head_tiles * (2 * ws.k_steps + ws.v_tiles + 16));
    const auto each_step = [&] { next.step(); };

    amx::configure_blocks(amx::Shape::square, 16, 32);
    for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s)
      for (std::int64_t t = 0; t < s->slots; t += block_tokens) {
        const std::int64_t slots = std::min(block_tokens, s->slots - t);
        scores_of_block(shape, ws,
                        s->k + static_cast<std::size_t>(t * shape.layout.head_dim) * shape.layout.value_bytes,
                        s->column + t, slots, widen, each_step);
      }
    // Columns without a token: their scores are garbage.
    const auto clear_scores = [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t h = 0; h < ws.head_tiles; ++h)
        std::fill(ws.scores_of(h, from), ws.scores_of(h, to), -infinity);
    };
    for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s)
      clear_scores(s->column + s->valid, s->column + s->slots);
    clear_scores(chunk.columns, columns);

    for (std::int64_t h = 0; h < ws.head_tiles; ++h) softmax_tile(shape, ws, h, columns, each_step);
    using amx::Shape;
    const Halves halves(shape.layout, chunk);
    const bool wide = ws.head_tiles == 1 && ws.v_group == 4;
    amx::configure_blocks(wide ? Shape::wide : Shape::square, ws.tile_heads, 32);
    if (wide) {
      add_values_one_by_one<Shape::wide, 1, 4>(ws, shape.layout, halves, widen, each_step);
    } else if (ws.head_tiles == 1) {
      add_values_one_by_one<Shape::square, 1, 2>(ws, shape.layout, halves, widen, each_step);
    } else if (ws.head_tiles == 2 && ws.v_group == 2) {
      add_values_one_by_one<Shape::square, 2, 2>(ws, shape.layout, halves, widen, each_step);
    } else {
      add_values_by_group(ws, shape.layout, halves, widen, each_step);
    }
  }

  void finish(const UnitShape& shape, std::byte* workspace, float* o, float* lse2) const override {
    amx::release();
    const MlaWorkspace ws = arrays(shape, workspace);
    for (std::int64_t h = 0; h < shape.heads; ++h) {
      const std::int64_t tile = h / ws.tile_heads, lane = h % ws.tile_heads, at = 16 * tile + lane;
      lse2[h] = ws.reference[at] * shape.scale_log2 + std::log2(ws.sum[at]);
      // Dividing by the rounded sum cancels the rounding of probabilities that are alike. Zero: all scores
      // -inf.
      const __m128 factor = _mm_set1_ps(ws.rounded_sum[at] == 0.0f ? 0.0f : 1.0f / ws.rounded_sum[at]);
      for (std::int64_t v_tile = 0; v_tile < shape.layout.v_dim / 16; ++v_tile)
        for (std::int64_t i = 0; i < 4; ++i) {
          const __m128 x = _mm_load_ps(ws.o_of(tile, v_tile) + 16 * lane + 4 * i);
          _mm_storeu_ps(o + h * shape.layout.v_dim + v_tile / 2 * 32 + 8 * i + v_tile % 2 * 4,
                        _mm_mul_ps(x, factor));
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
