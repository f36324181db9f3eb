// Scores of absorbed MLA -> probabilities, a chunk of tokens at a time, with heads in the lanes.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/cpu/attention/mla512_products.hpp"

#if HELIX_HAVE_AMX
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::mla512 {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Multiplies O of a tile of heads by their factors.
inline void rescale_values(const Workspace& ws, std::int64_t head_tile, std::int64_t v_dim, __m512 factor) {
  alignas(64) float factors[lanes];
  _mm512_store_ps(factors, factor);
  for (std::int64_t h = 0; h < lanes; ++h) {
    float* const o = ws.o + (head_tile * lanes + h) * v_dim;
    const __m512 row_factor = _mm512_set1_ps(factors[h]);
    for (std::int64_t d = 0; d < v_dim; d += 16)
      _mm512_store_ps(o + d, _mm512_mul_ps(_mm512_load_ps(o + d), row_factor));
  }
}

/// What a chunk's probabilities are relative to: a reference that follows the maximum only when that has
/// grown by more than 2^8, which brings what has been summed to it.
inline __m512 follow_maximum(const Workspace& ws, std::int64_t head_tile, std::int64_t v_dim,
                             std::int64_t tokens, __m512 scale) {
  const float* const scores = ws.scores_of(head_tile);
  const __m512 lowest = _mm512_set1_ps(-infinity);
  __m512 most[2] = {lowest, lowest};
  for (std::int64_t t = 0; t < tokens; t += 2)
    for (int i = 0; i < 2; ++i) most[i] = _mm512_max_ps(most[i], _mm512_load_ps(scores + lanes * (t + i)));
  const __m512 top = _mm512_max_ps(most[0], most[1]);
  const __m512 old = _mm512_load_ps(ws.reference + lanes * head_tile);
  const __mmask16 grown =
      _mm512_cmp_ps_mask(_mm512_mul_ps(_mm512_sub_ps(top, old), scale), _mm512_set1_ps(8.0f), _CMP_GT_OQ);
  const __m512 reference = _mm512_mask_mov_ps(old, grown, top);
  // All scores -inf so far: any finite reference gives the zeros that are due.
  const __m512 finite =
      _mm512_mask_mov_ps(reference, _mm512_cmp_ps_mask(reference, lowest, _CMP_EQ_OQ), _mm512_setzero_ps());
  if (grown == 0) return finite;
  _mm512_store_ps(ws.reference + lanes * head_tile, reference);
  const __mmask16 rescaled = _mm512_mask_cmp_ps_mask(grown, old, lowest, _CMP_NEQ_OQ);
  if (rescaled == 0) return finite;  // there are no earlier sums
  const __m512 factor = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), rescaled,
                                           exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(old, finite), scale)));
  for (float* const x : {ws.sum, ws.rounded_sum})
    _mm512_store_ps(x + lanes * head_tile, _mm512_mul_ps(_mm512_load_ps(x + lanes * head_tile), factor));
  rescale_values(ws, head_tile, v_dim, factor);
  return finite;
}

/// Scores of a tile of heads for a chunk -> P.
template <typename Products>
void soften(const UnitShape& shape, const Workspace& ws, std::int64_t head_tile, std::int64_t tokens) {
  const __m512 scale = _mm512_set1_ps(shape.scale_log2);
  const __m512 reference = follow_maximum(ws, head_tile, shape.layout.v_dim, tokens, scale);
  const float* const scores = ws.scores_of(head_tile);
  std::byte* const p = ws.p_of(head_tile);
  float *const sum_at = ws.sum + lanes * head_tile, *const rounded_at = ws.rounded_sum + lanes * head_tile;
  const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  __m512 sum = _mm512_load_ps(sum_at), rounded_sum = _mm512_load_ps(rounded_at);
  for (std::int64_t t = 0; t < tokens; t += 2) {
    const auto probability = [&](const float* x) {
      return exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(x), reference), scale));
    };
    const __m512 even = probability(scores + lanes * t), odd = probability(scores + lanes * (t + 1));
    const __m512i pairs = mla::pair_rows(even, odd);
    Products::store_p(pairs, p + 64 * t / Products::tokens);
    sum = _mm512_add_ps(sum, _mm512_add_ps(even, odd));
    rounded_sum = _mm512_dpbf16_ps(rounded_sum, reinterpret_cast<__m512bh>(pairs), ones);
  }
  _mm512_store_ps(sum_at, sum);
  _mm512_store_ps(rounded_at, rounded_sum);
}

/// Scores of the rows that are garbage, for all heads, become -inf.
inline void mask(const Workspace& ws, const Tiles& tiles) {
  std::int64_t first = 0;
  for (const Tile& tile : tiles) {
    for (std::int64_t h = 0; h < ws.head_tiles; ++h)
      for (std::int64_t t = tile.valid; t < tile_tokens; ++t)
        _mm512_store_ps(ws.scores_of(h) + lanes * (first + t), _mm512_set1_ps(-infinity));
    first += tile_tokens;
  }
}

}  // namespace helix::cpu::mla512

#pragma GCC pop_options
#endif
