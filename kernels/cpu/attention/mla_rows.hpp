// Rows of the MLA cache: where the tiles of a chunk's rows lie, fp8 widened to bf16, and V's tiles
// made of them. V is the second operand of P V and needs pairs of tokens interleaved, which is one
// shuffle a vector. The shuffle works within 128-bit lanes, so that the columns of O come in
// another order (restore_column_order).
#pragma once

#include "kernels/cpu/attention/mla_workspace.hpp"
#include "kernels/cpu/machine/amx_blocks.hpp"
#include "kernels/cpu/machine/avx512.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::mla {

/// Two tiles of 16 tokens' rows, of one page or two.
struct Block {
  const std::byte* k[2] = {};
  std::int64_t valid[2] = {};  // rows from here on are garbage; <= 0: all
};

struct Blocks {
  Block at[most_blocks];
  std::int64_t count = 0;

  Blocks(const KvLayout& layout, const Chunk& chunk) {
    std::int64_t halves = 0;
    const auto add = [&](const std::byte* k, std::int64_t valid) {
      at[halves / 2].k[halves % 2] = k;
      at[halves / 2].valid[halves % 2] = valid;
      ++halves;
    };
    for (const Segment* s = chunk.segments; s != chunk.segments + chunk.count; ++s)
      for (std::int64_t t = 0; t < s->slots; t += 16) add(s->k + layout.k_offset(t, 0), s->valid - t);
    if (halves % 2 == 1) add(at[halves / 2].k[0], 0);
    count = halves / 2;
  }
};

/// Widens a block's rows in pieces: 16 rows by 64 columns each.
class WidenRows {
 public:
  explicit WidenRows(const KvLayout& layout) : head_dim_(layout.head_dim) {}

  std::int64_t pieces() const { return 2 * ((head_dim_ + 63) / 64); }

  HELIX_ALWAYS_INLINE void work(const Block& from, const Block& to, std::int64_t piece) const {
    const std::int64_t group = piece / 2, half = piece % 2;
    const std::byte* const tile = from.k[half] + group * tile_bytes;
    auto* const rows = const_cast<std::byte*>(to.k[half]) + 2 * group * tile_bytes;
    if (64 * group + 64 <= head_dim_) {
      for (int t = 0; t < 16; ++t) widen_(tile + 64 * t, rows + 64 * t, rows + tile_bytes + 64 * t);
    } else {
      for (int t = 0; t < 16; ++t) widen_.half(tile + 32 * t, rows + 64 * t, rows + 64 * t + 32);
    }
  }

 private:
  std::int64_t head_dim_;
  Widen widen_;
};

/// Rows of 32 values from `rows` on -> their pairs in half a tile each of two tiles of V. Garbage rows become
/// zero: they may be NaN, and 0 * NaN is NaN.
HELIX_ALWAYS_INLINE void interleave_rows(const std::byte* rows, std::int64_t valid, std::byte* even,
                                         std::byte* odd) {
  const auto interleave = [&](const auto& row) __attribute__((always_inline)) {
    for (int pair = 0; pair < 8; ++pair) {
      const __m512i first = row(2 * pair), second = row(2 * pair + 1);
      _mm512_store_si512(even + 64 * pair, _mm512_unpacklo_epi16(first, second));
      _mm512_store_si512(odd + 64 * pair, _mm512_unpackhi_epi16(first, second));
    }
  };
  if (valid >= 16)
    interleave([&](int t) __attribute__((always_inline)) { return _mm512_loadu_si512(rows + 64 * t); });
  else
    interleave([&](int t) __attribute__((always_inline)) {
      return _mm512_maskz_loadu_epi64(t < valid ? 0xff : 0, rows + 64 * t);
    });
}

/// A row of two neighbouring tiles of O -> its 32 columns.
inline void restore_column_order(__m512 even, __m512 odd, __m512& first, __m512& second) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  first = _mm512_permutex2var_ps(even, low, odd);
  second = _mm512_permutex2var_ps(even, high, odd);
}

}  // namespace helix::cpu::mla

#pragma GCC pop_options
