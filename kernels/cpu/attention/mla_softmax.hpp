// Scores of absorbed MLA -> probabilities as the first operand of P V, a block of 32 tokens by 16 heads at a
// time, with heads in the lanes.
//
// Probabilities are relative to a reference that follows the maximum only when that has grown by more than
// 2^8: P and the sums are floating point and lose nothing, and earlier sums are rarely rescaled.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/cpu/attention/mla_rows.hpp"
#include "kernels/cpu/attention/mla_workspace.hpp"
#include "kernels/cpu/machine/avx512.hpp"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::mla {

/// The bf16 of rows 2i and 2i + 1 of 16 lanes as pairs.
inline __m512i pair_rows(__m512 even, __m512 odd) {
  const __m512i halves = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(odd, even));
  alignas(64) static constexpr std::uint16_t interleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                               21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                               11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(interleave), halves);
}

/// Transposing 16 rows of 16 words in two steps. The first turns four rows in place into their columns 4l +
/// j, in lane l of row j.
HELIX_ALWAYS_INLINE void transpose_four(__m512i* rows) {
  const __m512i low01 = _mm512_unpacklo_epi32(rows[0], rows[1]),
                high01 = _mm512_unpackhi_epi32(rows[0], rows[1]);
  const __m512i low23 = _mm512_unpacklo_epi32(rows[2], rows[3]),
                high23 = _mm512_unpackhi_epi32(rows[2], rows[3]);
  rows[0] = _mm512_unpacklo_epi64(low01, low23);
  rows[1] = _mm512_unpackhi_epi64(low01, low23);
  rows[2] = _mm512_unpacklo_epi64(high01, high23);
  rows[3] = _mm512_unpackhi_epi64(high01, high23);
}
/// The second stores columns j, 4 + j, 8 + j and 12 + j.
HELIX_ALWAYS_INLINE void store_columns(const __m512i* rows, int j, std::byte* to) {
  const __m512i even_low = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0x88),
                odd_low = _mm512_shuffle_i32x4(rows[j], rows[4 + j], 0xdd);
  const __m512i even_high = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0x88),
                odd_high = _mm512_shuffle_i32x4(rows[8 + j], rows[12 + j], 0xdd);
  _mm512_store_si512(to + 64 * j, _mm512_shuffle_i32x4(even_low, even_high, 0x88));
  _mm512_store_si512(to + 64 * (4 + j), _mm512_shuffle_i32x4(odd_low, odd_high, 0x88));
  _mm512_store_si512(to + 64 * (8 + j), _mm512_shuffle_i32x4(even_low, even_high, 0xdd));
  _mm512_store_si512(to + 64 * (12 + j), _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd));
}
inline void transpose(__m512i (&rows)[16], std::byte* to) {
  for (int g = 0; g < 16; g += 4) transpose_four(rows + g);
  for (int j = 0; j < 4; ++j) store_columns(rows, j, to);
}

/// The scores of a block for `tiles` tiles of heads from `head_tile` on, turned into probabilities in pieces.
class Softmax {
 public:
  void start(float* scores, const Block& tokens, std::int64_t head_tile, std::int64_t tiles,
             std::int64_t block) {
    scores_ = scores;
    tokens_ = &tokens;
    head_tile_ = head_tile;
    tiles_ = tiles;
    block_ = block;
  }

  /// Before the work: garbage rows' scores become -inf.
  HELIX_ALWAYS_INLINE void mask() const {
    if (tiles_ == 0 || (tokens_->valid[0] >= 16 && tokens_->valid[1] >= 16)) return;
    for (std::int64_t half = 0; half < 2; ++half)
      for (std::int64_t t = std::max<std::int64_t>(tokens_->valid[half], 0); t < 16; ++t)
        for (std::int64_t tile = 0; tile < tiles_; ++tile)
          _mm512_store_ps(scores_ + (tile * block_tokens + half * 16 + t) * 16,
                          _mm512_set1_ps(-std::numeric_limits<float>::infinity()));
  }

  std::int64_t tiles() const { return tiles_; }
  static constexpr int pieces = 8;  // of a tile, to be done in order: four tokens each

  template <int kPiece>
  HELIX_ALWAYS_INLINE void work(const Workspace& ws, float scale_log2, std::int64_t tile) {
    const float* const scores = scores_ + tile * block_tokens * 16;
    const std::int64_t head_tile = head_tile_ + tile;
    const __m512 scale = _mm512_set1_ps(scale_log2);
    if constexpr (kPiece == 0) finite_ = follow_maximum(ws, head_tile, scores, scale);
    add_pairs(scores + 64 * kPiece, scale, pairs_ + 2 * kPiece, ws.sum + 16 * head_tile,
              ws.rounded_sum + 16 * head_tile);
    if constexpr (kPiece % 2 == 1) transpose_four(pairs_ + 2 * (kPiece - 1));
    if constexpr (kPiece == pieces - 1)
      for (int j = 0; j < 4; ++j) store_columns(pairs_, j, ws.p_of(head_tile, block_));
  }

 private:
  /// -> what probabilities are relative to.
  HELIX_ALWAYS_INLINE __m512 follow_maximum(const Workspace& ws, std::int64_t head_tile, const float* scores,
                                            __m512 scale) {
    const __m512 lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
    __m512 most[4] = {lowest, lowest, lowest, lowest};
    for (int t = 0; t < block_tokens; t += 4)
      for (int i = 0; i < 4; ++i) most[i] = _mm512_max_ps(most[i], _mm512_load_ps(scores + 16 * (t + i)));
    const __m512 top = _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
    const __m512 old = _mm512_load_ps(ws.reference + 16 * head_tile);
    const __mmask16 grown =
        _mm512_cmp_ps_mask(_mm512_mul_ps(_mm512_sub_ps(top, old), scale), _mm512_set1_ps(8.0f), _CMP_GT_OQ);
    const __m512 reference = _mm512_mask_mov_ps(old, grown, top);
    // All scores -inf so far: any finite reference gives the zeros that are due.
    const __m512 finite =
        _mm512_mask_mov_ps(reference, _mm512_cmp_ps_mask(reference, lowest, _CMP_EQ_OQ), _mm512_setzero_ps());
    if (grown == 0) return finite;
    _mm512_store_ps(ws.reference + 16 * head_tile, reference);
    const __mmask16 rescaled = _mm512_mask_cmp_ps_mask(grown, old, lowest, _CMP_NEQ_OQ);
    if (rescaled == 0) return finite;  // there are no earlier sums
    rescale(ws, head_tile,
            _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), rescaled,
                               exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(old, finite), scale))));
    return finite;
  }

  /// Sums and what this chunk's blocks before this one have of P, now; O when P V is added to it.
  __attribute__((noinline)) void rescale(const Workspace& ws, std::int64_t head_tile, __m512 factor) const {
    for (float* const x : {ws.sum, ws.rounded_sum, ws.factor})
      _mm512_store_ps(x + 16 * head_tile, _mm512_mul_ps(_mm512_load_ps(x + 16 * head_tile), factor));
    alignas(64) float factors[16];
    _mm512_store_ps(factors, factor);
    for (std::int64_t block = 0; block < block_; ++block)
      for (int h = 0; h < 16; ++h) {
        std::byte* const row = ws.p_of(head_tile, block) + 64 * h;
        const __m512i pairs = _mm512_load_si512(row);
        const __m512 row_factor = _mm512_set1_ps(factors[h]);
        _mm512_store_si512(row, pair_rows(_mm512_mul_ps(even_of_pairs(pairs), row_factor),
                                          _mm512_mul_ps(odd_of_pairs(pairs), row_factor)));
      }
  }

  /// Probabilities of four tokens.
  HELIX_ALWAYS_INLINE void add_pairs(const float* scores, __m512 scale, __m512i* pairs, float* sum,
                                     float* rounded_sum) const {
    const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
    __m512 exact = _mm512_load_ps(sum), rounded = _mm512_load_ps(rounded_sum);
    for (int i = 0; i < 2; ++i) {
      const auto probability = [&](const float* x) {
        return exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(x), finite_), scale));
      };
      const __m512 even = probability(scores + 32 * i), odd = probability(scores + 32 * i + 16);
      pairs[i] = pair_rows(even, odd);
      exact = _mm512_add_ps(exact, _mm512_add_ps(even, odd));
      rounded = _mm512_dpbf16_ps(rounded, reinterpret_cast<__m512bh>(pairs[i]), ones);
    }
    _mm512_store_ps(sum, exact);
    _mm512_store_ps(rounded_sum, rounded);
  }

  float* scores_ = nullptr;
  const Block* tokens_ = nullptr;
  std::int64_t head_tile_ = 0, tiles_ = 0, block_ = 0;
  __m512 finite_;
  __m512i pairs_[16];
};

}  // namespace helix::cpu::mla

#pragma GCC pop_options
