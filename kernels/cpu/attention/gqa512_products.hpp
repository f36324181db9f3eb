// Products of blocks of GQA on AVX-512's vectors: a line of the pages holds pairs along the summed dimension
// for 16 columns of the result (kv_layout.hpp); the other operand is a head's pair, broadcast from memory.
// Several heads by several lines are summed in registers, so that a line is loaded once for some heads. Lines
// are brought to what is multiplied in registers or, where more heads need them, beforehand and in L1.
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

struct Pair {
  __m512i bf16;
};

/// Lines of the cache as pairs: those of bf16 hold one of each column, those of fp8 two.
struct PlainLine {
  static constexpr int pairs = 1;
  template <typename Products>
  HELIX_ALWAYS_INLINE void load(const std::byte* from, Pair (&pair)[pairs]) const {
    pair[0] = {_mm512_loadu_si512(from)};
  }
};
struct WidenedLine {
  static constexpr int pairs = 2;
  Widen widen;
  template <typename Products>
  HELIX_ALWAYS_INLINE void load(const std::byte* from, Pair (&pair)[pairs]) const {
    const Widen::Parts parts = widen.split(_mm512_loadu_si512(from));
    pair[0] = {parts.first};
    pair[1] = {parts.second};
  }
};
/// A pair as it is multiplied.
struct ReadyLine {
  static constexpr int pairs = 1;
  template <typename Products>
  HELIX_ALWAYS_INLINE void load(const std::byte* from, typename Products::Ready (&pair)[pairs]) const {
    pair[0] = Products::load(from);
  }
};
template <typename Products, typename Line>
using Loaded = std::conditional_t<std::is_same_v<Line, ReadyLine>, typename Products::Ready, Pair>;

/// Products of a pair by one instruction: A is bf16, too.
struct Dots {
  using Value = std::uint16_t;
  using Ready = Pair;
  static constexpr int most_heads = 4, most_columns = 4;  // of a block of sums
  static constexpr int most_in_order = 8;                 // heads of a block of one column of lines
  static HELIX_ALWAYS_INLINE Ready ready(Pair pair) { return pair; }
  static HELIX_ALWAYS_INLINE Ready load(const std::byte* from) { return {_mm512_loadu_si512(from)}; }
  static HELIX_ALWAYS_INLINE void store(Ready pair, std::byte* to) { _mm512_storeu_si512(to, pair.bf16); }

  template <int kHeads, int kColumns>
  static HELIX_ALWAYS_INLINE void add(__m512 (&sum)[kHeads][kColumns], const Value* a, std::int64_t a_row,
                                      const Ready (&pair)[kColumns]) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      int word;
      std::memcpy(&word, a + h * a_row, sizeof word);
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_epi32(word));
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j)
        sum[h][j] = _mm512_dpbf16_ps(sum[h][j], x, reinterpret_cast<__m512bh>(pair[j].bf16));
    }
  }
};
/// By two fp32 multiply-adds: A is fp32.
struct MultiplyAdds {
  using Value = float;
  struct Ready {
    __m512 first, second;
  };
  static constexpr int most_heads = 8, most_columns = 2;
  static constexpr int most_in_order = 0;  // not at all
  static HELIX_ALWAYS_INLINE Ready ready(Pair pair) {
    return {even_of_pairs(pair.bf16), odd_of_pairs(pair.bf16)};
  }
  static HELIX_ALWAYS_INLINE Ready ready(Ready pair) { return pair; }
  static HELIX_ALWAYS_INLINE Ready load(const std::byte* from) {
    return {_mm512_loadu_ps(from), _mm512_loadu_ps(from + 64)};
  }
  static HELIX_ALWAYS_INLINE void store(Ready pair, std::byte* to) {
    _mm512_storeu_ps(to, pair.first);
    _mm512_storeu_ps(to + 64, pair.second);
  }

  template <int kHeads, int kColumns>
  static HELIX_ALWAYS_INLINE void add(__m512 (&sum)[kHeads][kColumns], const Value* a, std::int64_t a_row,
                                      const Ready (&pair)[kColumns]) {
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      const __m512 x = _mm512_set1_ps(a[h * a_row]), y = _mm512_set1_ps(a[h * a_row + 1]);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sum[h][j] = _mm512_fmadd_ps(pair[j].first, x, sum[h][j]);
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j) sum[h][j] = _mm512_fmadd_ps(pair[j].second, y, sum[h][j]);
    }
  }
};

template <typename Products, typename Line>
constexpr std::int64_t bytes_of = std::is_same_v<Line, ReadyLine> ? sizeof(typename Products::Ready) : 64;

/// A stretch of `lines` lines of the cache as ReadyLine has them; returns the end of what is written.
template <typename Products, typename Line>
HELIX_ALWAYS_INLINE std::byte* make_ready(const std::byte* from, std::int64_t lines, std::byte* to) {
  const Line line;
  for (std::int64_t l = 0; l < lines; ++l, from += 64) {
    Pair pair[Line::pairs];
    line.template load<Products>(from, pair);
    for (int p = 0; p < Line::pairs; ++p, to += bytes_of<Products, ReadyLine>)
      Products::store(Products::ready(pair[p]), to);
  }
  return to;
}

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
/// 4), b(column, stretch) being where. Their products go to kChains sums in turn, for blocks of fewer sums than a
/// product has cycles.
template <typename Products, typename Line, Sums kSums, int kHeads, int kColumns, int kChains = 1,
          bool kInOrder = false, typename B>
HELIX_ALWAYS_INLINE void multiply(const Rows<typename Products::Value>& rows, const B& b,
                                  std::int64_t stretches, std::int64_t lines, Prefetcher& next) {
  __m512 sums[kChains][kHeads][kColumns];
#pragma GCC unroll 4
  for (int c = 0; c < kChains; ++c)
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
      for (int j = 0; j < kColumns; ++j)
        sums[c][h][j] = kSums == Sums::added && c == 0 ? _mm512_loadu_ps(rows.c + h * rows.c_row + 16 * j)
                                                       : _mm512_setzero_ps();
  constexpr std::int64_t line_bytes = bytes_of<Products, Line>;
  const Line line;
  const auto* a = rows.a;
  Prefetcher ahead = next;
  for (std::int64_t s = 0; s < stretches; ++s) {
    const std::byte* at[kColumns];
    for (int j = 0; j < kColumns; ++j) at[j] = b(j, s);
    for (std::int64_t l = 0; l < lines; l += 4) {
      if constexpr (!kInOrder) ahead.step();
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Loaded<Products, Line> loaded[kColumns][Line::pairs];
#pragma GCC unroll 4
        for (int j = 0; j < kColumns; ++j) {
          if constexpr (kInOrder) ahead.line();
          line.template load<Products>(at[j] + line_bytes * (l + i), loaded[j]);
        }
#pragma GCC unroll 2
        for (int p = 0; p < Line::pairs; ++p, a += 2) {
          typename Products::Ready pair[kColumns];
#pragma GCC unroll 4
          for (int j = 0; j < kColumns; ++j) pair[j] = Products::ready(loaded[j][p]);
          Products::template add<kHeads, kColumns>(sums[(i * Line::pairs + p) % kChains], a, rows.a_row,
                                                   pair);
        }
      }
    }
  }
  next = ahead;
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
    for (int j = 0; j < kColumns; ++j) {
      __m512 sum = sums[0][h][j];
#pragma GCC unroll 4
      for (int c = 1; c < kChains; ++c) sum = _mm512_add_ps(sum, sums[c][h][j]);
      _mm512_storeu_ps(rows.c + h * rows.c_row + 16 * j, sum);
    }
}

}  // namespace helix::cpu::gqa512

#pragma GCC pop_options
#endif
