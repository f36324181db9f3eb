// The two products of absorbed MLA on AVX-512's vectors. With heads in the lanes of S^T [tokens, heads] = K
// Q^T, words of a row are broadcast from memory and the softmax needs no horizontal operation; for O [heads,
// v_dim] += P V, words of P are. Few heads' S^T comes from dot products along the rows.
#pragma once

#include <cstring>

#include "kernels/cpu/attention/mla512_workspace.hpp"
#include "kernels/cpu/attention/mla_rows.hpp"
#include "kernels/cpu/attention/mla_softmax.hpp"

#if HELIX_HAVE_AMX
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::mla512 {

/// A pair of products by one instruction: words are pairs of bf16. Pairs of V's tokens are interleaved in
/// registers: shuffles have a port of their own.
struct Dots {
  static constexpr std::int64_t value_bytes = 2;
  static constexpr int tokens = 2;     // of a word of P
  static constexpr int row_parts = 1;  // vectors of 32 neighbours of a row
  struct Columns {
    __m512i left, right;
  };

  static HELIX_ALWAYS_INLINE __m512 add(__m512 sum, __m512i x, __m512i y) {
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(y));
  }
  static HELIX_ALWAYS_INLINE __m512i row_part(__m512i pairs, int) { return pairs; }
  static HELIX_ALWAYS_INLINE Columns columns(const std::byte* row, bool both) {
    const __m512i first = _mm512_loadu_si512(row);
    const __m512i second = both ? _mm512_loadu_si512(row + 64) : _mm512_setzero_si512();
    return {_mm512_unpacklo_epi16(first, second), _mm512_unpackhi_epi16(first, second)};
  }
  static HELIX_ALWAYS_INLINE void store_p(__m512i pairs, std::byte* to) { _mm512_store_si512(to, pairs); }
  /// Sums of 32 columns in their order.
  static void restore(__m512 left, __m512 right, float* to, __m512 factor) {
    __m512 first, second;
    mla::restore_column_order(left, right, first, second);
    _mm512_storeu_ps(to, _mm512_mul_ps(first, factor));
    _mm512_storeu_ps(to + 16, _mm512_mul_ps(second, factor));
  }
};

/// fp32 multiply-adds: words are values. Those of V are its even and its odd columns.
struct MultiplyAdds {
  static constexpr std::int64_t value_bytes = 4;
  static constexpr int tokens = 1, row_parts = 2;
  using Columns = Dots::Columns;

  static HELIX_ALWAYS_INLINE __m512 add(__m512 sum, __m512i x, __m512i y) {
    return _mm512_fmadd_ps(_mm512_castsi512_ps(x), _mm512_castsi512_ps(y), sum);
  }
  static HELIX_ALWAYS_INLINE __m512i row_part(__m512i pairs, int part) {
    return _mm512_castps_si512(part == 0 ? even_of_pairs(pairs) : odd_of_pairs(pairs));
  }
  static HELIX_ALWAYS_INLINE Columns columns(const std::byte* row, bool) {
    const __m512i pairs = _mm512_loadu_si512(row);
    return {_mm512_castps_si512(even_of_pairs(pairs)), _mm512_castps_si512(odd_of_pairs(pairs))};
  }
  static HELIX_ALWAYS_INLINE void store_p(__m512i pairs, std::byte* to) {
    _mm512_store_ps(to, even_of_pairs(pairs));
    _mm512_store_ps(to + 64, odd_of_pairs(pairs));
  }
  static void restore(__m512 even, __m512 odd, float* to, __m512 factor) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    _mm512_storeu_ps(to, _mm512_mul_ps(_mm512_permutex2var_ps(even, low, odd), factor));
    _mm512_storeu_ps(to + 16, _mm512_mul_ps(_mm512_permutex2var_ps(even, high, odd), factor));
  }
};

/// 16 tokens' rows in the cache or, of fp8, where they are widened to; those from `valid` on are garbage.
struct Tile {
  const std::byte* rows;
  std::int64_t valid;
};

class Tiles {
 public:
  Tiles(const KvLayout& layout, const Chunk& chunk) {
    for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s)
      for (std::int64_t t = 0; t < s->slots; t += tile_tokens)
        tiles_[count_++] = {s->k + layout.k_offset(t, 0), std::min(s->valid - t, tile_tokens)};
  }
  Tile* begin() { return tiles_; }
  Tile* end() { return tiles_ + count_; }
  const Tile* begin() const { return tiles_; }
  const Tile* end() const { return tiles_ + count_; }
  std::int64_t count() const { return count_; }

 private:
  Tile tiles_[most_tiles];
  std::int64_t count_ = 0;
};

template <typename Word>
HELIX_ALWAYS_INLINE Word word_at(const std::byte* from) {
  Word word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

/// Scores [16 tokens][16 heads] of a tile of rows. A line of Q holds neighbours of a row, two words, for
/// eight heads, so that what is broadcast of a row serves both halves of a tile of heads.
template <typename Products>
void multiply_rows(const std::byte* all_rows, const std::byte* q, const Workspace& ws, float* scores,
                   Prefetcher& next) {
  constexpr int tokens = 8;
  constexpr std::int64_t row_bytes = 32 * Products::value_bytes;  // of a step
  constexpr std::int64_t q_step = 8 * row_bytes;
  for (int first = 0; first < tile_tokens; first += tokens) {
    __m512 sum[tokens][2];
#pragma GCC unroll 8
    for (auto& row : sum) row[0] = row[1] = _mm512_setzero_ps();
    const std::byte* rows = all_rows + first * row_bytes;
    const std::byte* line = q;
    for (std::int64_t k = 0; k < ws.k_steps; ++k, rows += 16 * row_bytes) {
      next.step();
      for (std::int64_t at = 0; at < row_bytes; at += 8, line += 64) {
        const __m512i low = _mm512_load_si512(line), high = _mm512_load_si512(line + ws.k_steps * q_step);
#pragma GCC unroll 8
        for (int t = 0; t < tokens; ++t) {
          const __m512i words = _mm512_set1_epi64(word_at<long long>(rows + t * row_bytes + at));
          sum[t][0] = Products::add(sum[t][0], low, words);
          sum[t][1] = Products::add(sum[t][1], high, words);
        }
      }
    }
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
#pragma GCC unroll 8
    for (int t = 0; t < tokens; ++t)
      _mm512_store_ps(scores + lanes * (first + t),
                      _mm512_add_ps(_mm512_permutex2var_ps(sum[t][0], even, sum[t][1]),
                                    _mm512_permutex2var_ps(sum[t][0], odd, sum[t][1])));
  }
}

/// In each 128 bits, of two vectors.
HELIX_ALWAYS_INLINE __m512d pairs_of_sums(__m512 x, __m512 y) {
  return _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y)));
}
/// In each half of 256 bits, of two vectors whose 128 bits are summands.
HELIX_ALWAYS_INLINE __m512 halves_of_sums(__m512 x, __m512 y) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(x, y, 0x44), _mm512_shuffle_f32x4(x, y, 0xee));
}
/// Lane i: the sum of x[i]'s lanes.
HELIX_ALWAYS_INLINE __m512 sums_of_lanes(const __m512 (&x)[16]) {
  __m512 fours[4];  // in each 128 bits, of four vectors
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d low = pairs_of_sums(x[4 * i], x[4 * i + 1]);
    const __m512d high = pairs_of_sums(x[4 * i + 2], x[4 * i + 3]);
    fours[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
                             _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
  }
  const __m512 low = halves_of_sums(fours[0], fours[1]), high = halves_of_sums(fours[2], fours[3]);
  return _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xdd));
}

/// Likewise for eight heads, by dot products along rows as they lie: for few heads, to which spreading rows out
/// for broadcasts is much work. A line of Q is one head's.
template <typename Products>
void multiply_rows_of_few(const std::byte* rows, const std::byte* q, const Workspace& ws, float* scores,
                          Prefetcher& next) {
  for (int t = 0; t < tile_tokens; t += 2) {
    __m512 sum[16];  // [2 tokens][8 heads]
#pragma GCC unroll 16
    for (__m512& x : sum) x = _mm512_setzero_ps();
    const std::byte* row = rows + 64 * t;
    const std::byte* line = q;
    for (std::int64_t k = 0; k < ws.k_steps; ++k, row += tile_bytes) {
      next.step();
      const __m512i first = _mm512_loadu_si512(row), second = _mm512_loadu_si512(row + 64);
#pragma GCC unroll 2
      for (int part = 0; part < Products::row_parts; ++part, line += 8 * 64) {
        const __m512i x = Products::row_part(first, part), y = Products::row_part(second, part);
#pragma GCC unroll 8
        for (int h = 0; h < 8; ++h) {
          const __m512i head = _mm512_load_si512(line + 64 * h);
          sum[h] = Products::add(sum[h], head, x);
          sum[8 + h] = Products::add(sum[8 + h], head, y);
        }
      }
    }
    const __m512 sums = sums_of_lanes(sum);
    _mm256_store_ps(scores + lanes * t, _mm512_castps512_ps256(sums));
    _mm256_store_ps(scores + lanes * (t + 1), _mm512_extractf32x8_ps(sums, 1));
  }
}

/// 32 columns of O of kHeads heads += P V. column: bytes to those in each tile; garbage rows, which may be
/// NaN, are not multiplied.
template <typename Products, int kHeads>
void multiply_values(const Tiles& tiles, std::int64_t column, const std::byte* p, float* o,
                     std::int64_t v_dim, Prefetcher& next) {
  __m512 sum[kHeads][2];
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) sum[h][j] = _mm512_load_ps(o + h * v_dim + 16 * j);
  for (const Tile& tile : tiles) {
    next.step();
    const std::byte* row = tile.rows + column;
    const std::byte* words = p;
    p += 64 * tile_tokens / Products::tokens;
    const auto add = [&](bool both) __attribute__((always_inline)) {
      const auto columns = Products::columns(row, both);
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) {
        const __m512i x = _mm512_set1_epi32(word_at<int>(words + 4 * h));
        sum[h][0] = Products::add(sum[h][0], columns.left, x);
        sum[h][1] = Products::add(sum[h][1], columns.right, x);
      }
    };
    std::int64_t left = tile.valid;
    for (; left >= Products::tokens; left -= Products::tokens, row += 64 * Products::tokens, words += 64)
      add(true);
    if (left > 0) add(false);
  }
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) _mm512_store_ps(o + h * v_dim + 16 * j, sum[h][j]);
}

}  // namespace helix::cpu::mla512

#pragma GCC pop_options
#endif
