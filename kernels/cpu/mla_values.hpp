// Rows of the MLA cache -> V as the second operand of P V: pairs of tokens interleaved by one shuffle a
// vector, and fp8 widened on the way. The shuffle works within 128-bit lanes, so that the columns of O come in
// another order (column_order_restored).
#pragma once

#include "kernels/cpu/avx512.hpp"
#include "kernels/cpu/mla_workspace.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16")

namespace helix::cpu::mla {

/// Two tiles of 16 tokens' rows in the cache, of one page or two.
struct Block {
  const std::byte* k[2] = {};
  std::int64_t valid[2] = {};  // rows from here on are garbage; <= 0: all
};

struct Blocks {
  Block at[max_chunk_tokens / block_tokens];
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

/// Fills V's tiles of a block, and of fp8 its rows as bf16, in pieces: 16 rows by 64 bytes each. Garbage rows
/// become zero: they may be NaN, and 0 * NaN is NaN.
class Values {
 public:
  Values(const Workspace& ws, const KvLayout& layout) : ws_(ws), layout_(layout) {}

  std::int64_t pieces() const { return 2 * (layout_.fp8 ? (layout_.head_dim + 63) / 64 : ws_.v_tiles / 2); }

  HELIX_ALWAYS_INLINE void fill(const Block& from, std::int64_t block, std::int64_t piece) const {
    const std::int64_t group = piece / 2, half = piece % 2;
    const std::byte* const tile = from.k[half] + group * tile_bytes;
    const std::int64_t valid = from.valid[half];
    if (layout_.fp8) {
      widen_rows(tile, valid, block, half, group);
    } else if (valid >= 16) {
      interleave_rows(block, half, 2 * group, [&](int t) { return _mm512_loadu_si512(tile + 64 * t); });
    } else {
      interleave_rows(block, half, 2 * group, [&](int t) {
        return _mm512_maskz_loadu_epi64(t < valid ? 0xff : 0, tile + 64 * t);
      });
    }
  }

 private:
  /// 16 rows of 32 values -> their rows of pairs in two tiles.
  template <typename Row>
  HELIX_ALWAYS_INLINE void interleave_rows(std::int64_t block, std::int64_t half, std::int64_t v_tile,
                                           const Row& row) const {
    std::byte* const even = ws_.v_of(v_tile, block) + half * (tile_bytes / 2);
    std::byte* const odd = even + ws_.chunk_blocks * tile_bytes;
    for (int pair = 0; pair < 8; ++pair) {
      const __m512i first = row(2 * pair), second = row(2 * pair + 1);
      _mm512_store_si512(even + 64 * pair, _mm512_unpacklo_epi16(first, second));
      _mm512_store_si512(odd + 64 * pair, _mm512_unpackhi_epi16(first, second));
    }
  }

  void widen_rows(const std::byte* tile, std::int64_t valid, std::int64_t block, std::int64_t half,
                  std::int64_t group) const {
    const std::int64_t row_bytes = std::min<std::int64_t>(64, layout_.head_dim - 64 * group);
    const __mmask64 row = row_bytes == 64 ? ~0ull : (1ull << row_bytes) - 1;
    std::byte* const rows = ws_.rows_of(block, half) + 2 * group * tile_bytes;
    for (std::int64_t t = 0; t < 16; ++t) {
      Widen::Parts parts = widen_.split(_mm512_maskz_loadu_epi8(t < valid ? row : 0, tile + t * row_bytes));
      if (row_bytes < 64) {  // the two parts are halves of a row of 32 values
        parts.even = _mm512_inserti64x4(parts.even, _mm512_castsi512_si256(parts.odd), 1);
      } else {
        _mm512_store_si512(rows + tile_bytes + 64 * t, parts.odd);
      }
      _mm512_store_si512(rows + 64 * t, parts.even);
    }
    for (std::int64_t i = 0; i < row_bytes / 32; ++i)
      if (const std::int64_t v_tile = 4 * group + 2 * i; v_tile < ws_.v_tiles)
        interleave_rows(block, half, v_tile,
                        [&](int t) { return _mm512_load_si512(rows + i * tile_bytes + 64 * t); });
  }

  const Workspace& ws_;
  const KvLayout& layout_;
  Widen widen_;
};

/// A row of two neighbouring tiles of O -> its 32 columns.
inline void restore_column_order(__m512 even, __m512 odd, __m512& first, __m512& second) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  first = _mm512_permutex2var_ps(even, low, odd);
  second = _mm512_permutex2var_ps(even, high, odd);
}

}  // namespace helix::cpu::mla

#pragma GCC pop_options
