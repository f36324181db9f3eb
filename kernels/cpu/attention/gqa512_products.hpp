// Products of blocks of GQA on AVX-512's vectors: a line of the pages holds pairs along the summed dimension
// for 16 columns of the result (kv_layout.hpp); the other operand is a head's pair, broadcast from memory.
// Several heads by several lines are summed in registers, so that a line is loaded once for some heads, and
// fp8 lines are widened in registers.
#pragma once

#include <cstring>
#include <type_traits>

#include "kernels/cpu/attention/kv_chunks.hpp"
#include "kernels/cpu/machine/amx_blocks.hpp"

#if HELIX_HAVE_AMX
#include "kernels/cpu/machine/avx512.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::gqa512 {

/// body(n as a constant): the largest power of two up to `left` and kMost; returns n.
template <int kMost, typename Body>
HELIX_ALWAYS_INLINE std::int64_t with_part(std::int64_t left, const Body& body) {
  if constexpr (kMost > 1)
    if (left < kMost) return with_part<kMost / 2>(left, body);
  body(std::integral_constant<int, kMost>());
  return kMost;
}

/// Lines of 64 bytes as pairs: those of bf16 hold one of each column, those of fp8 two.
struct PlainLine {
  static constexpr int pairs = 1;
  HELIX_ALWAYS_INLINE void load(const std::byte* from, __m512i (&pair)[pairs]) const {
    pair[0] = _mm512_loadu_si512(from);
  }
};
struct WidenedLine {
  static constexpr int pairs = 2;
  Widen widen;
  HELIX_ALWAYS_INLINE void load(const std::byte* from, __m512i (&pair)[pairs]) const {
    const Widen::Parts parts = widen.split(_mm512_loadu_si512(from));
    pair[0] = parts.first;
    pair[1] = parts.second;
  }
};

/// Products of a pair by one instruction: A is bf16, too.
struct Dots {
  using Value = std::uint16_t;
  static constexpr int most_heads = 4, most_columns = 4;  // of a block of sums

  template <int kHeads, int kColumns>
  static HELIX_ALWAYS_INLINE void add(__m512 (&sum)[kHeads][kColumns], const Value* a, std::int64_t a_row,
                                      const __m512i (&pair)[kColumns]) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      int word;
      std::memcpy(&word, a + h * a_row, sizeof word);
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(word));
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j)
        sum[h][j] = _mm512_dpbf16_ps(sum[h][j], x, reinterpret_cast<__m512bh>(pair[j]));
    }
  }
};
/// By two fp32 multiply-adds: A is fp32. The more heads, the less it is to widen the pairs.
struct MultiplyAdds {
  using Value = float;
  static constexpr int most_heads = 8, most_columns = 2;

  template <int kHeads, int kColumns>
  static HELIX_ALWAYS_INLINE void add(__m512 (&sum)[kHeads][kColumns], const Value* a, std::int64_t a_row,
                                      const __m512i (&pair)[kColumns]) {
    __m512 first[kColumns], second[kColumns];
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      first[j] = even_of_pairs(pair[j]);
      second[j] = odd_of_pairs(pair[j]);
    }
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      const __m512 x = _mm512_set1_ps(a[h * a_row]), y = _mm512_set1_ps(a[h * a_row + 1]);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sum[h][j] = _mm512_fmadd_ps(first[j], x, sum[h][j]);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sum[h][j] = _mm512_fmadd_ps(second[j], y, sum[h][j]);
    }
  }
};

/// Rows of A, and of the sums of products.
template <typename Value>
struct Rows {
  const Value* a;
  std::int64_t a_row;
  float* c;
  std::int64_t c_row;
};

enum class Sums { fresh, added };

/// C [heads, 16 columns each] = or += A B. B's lines lie in `stretches` stretches of `lines` (a multiple of
/// 4), b(column, stretch) being where.
template <typename Products, typename Line, Sums kSums, int kHeads, int kColumns, typename B>
HELIX_ALWAYS_INLINE void multiply(const Rows<typename Products::Value>& rows, const B& b,
                                  std::int64_t stretches, std::int64_t lines, Prefetcher& next) {
  __m512 sum[kHeads][kColumns];
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j)
      sum[h][j] =
          kSums == Sums::added ? _mm512_loadu_ps(rows.c + h * rows.c_row + 16 * j) : _mm512_setzero_ps();
  const Line line;
  const auto* a = rows.a;
  Prefetcher ahead = next;
  for (std::int64_t s = 0; s < stretches; ++s) {
    const std::byte* at[kColumns];
    for (int j = 0; j < kColumns; ++j) at[j] = b(j, s);
    for (std::int64_t l = 0; l < lines; l += 4) {
      ahead.step();
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        __m512i loaded[kColumns][Line::pairs];
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; ++j) line.load(at[j] + 64 * (l + i), loaded[j]);
#pragma GCC unroll 2
        for (int p = 0; p < Line::pairs; ++p, a += 2) {
          __m512i pair[kColumns];
#pragma GCC unroll 4
          for (int j = 0; j < kColumns; ++j) pair[j] = loaded[j][p];
          Products::template add<kHeads, kColumns>(sum, a, rows.a_row, pair);
        }
      }
    }
  }
  next = ahead;
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) _mm512_storeu_ps(rows.c + h * rows.c_row + 16 * j, sum[h][j]);
}

}  // namespace helix::cpu::gqa512

#pragma GCC pop_options
#endif
