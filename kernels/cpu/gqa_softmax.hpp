// The softmax between GQA's two AMX products: a chunk's scores become bf16 probabilities relative to the
// largest score so far, and what was summed before is brought to the new one.
#pragma once

#include <limits>

#include "kernels/cpu/gqa_workspace.hpp"

#if HELIX_HAVE_AMX
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::gqa {

constexpr float infinity = std::numeric_limits<float>::infinity();

inline float finite_or_zero(float max) {
  return max == -infinity ? 0.0f : max;
}

/// The rows of heads [h, h + kRows): their maxima so far.
template <int kRows>
inline void update_max(const Workspace& ws, std::int64_t h, std::int64_t columns) {
  __m512 top[kRows];
  for (int r = 0; r < kRows; ++r) top[r] = _mm512_set1_ps(ws.max[h + r]);
  for (std::int64_t t = 0; t < columns; t += 16)
    for (int r = 0; r < kRows; ++r)
      top[r] = _mm512_max_ps(top[r], _mm512_loadu_ps(ws.scores + (h + r) * ws.score_stride + t));
  for (int r = 0; r < kRows; ++r) ws.max[h + r] = max_of_lanes(top[r]);
}

/// Their scores -> bf16 probabilities relative to the maxima; adds these up. Columns up to the next multiple
/// of 32 hold -inf.
template <int kRows>
inline void exponentials(const Workspace& ws, std::int64_t h, std::int64_t columns, float scale_log2,
                         Prefetcher& next) {
  const __m512 scale = _mm512_set1_ps(scale_log2);
  const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
  __m512 reference[kRows], total[kRows], rounded_total[kRows];
  for (int r = 0; r < kRows; ++r) {
    reference[r] = _mm512_set1_ps(finite_or_zero(ws.max[h + r]));
    total[r] = rounded_total[r] = _mm512_setzero_ps();
  }
  for (std::int64_t t = 0; t < columns; t += 32)
    for (int r = 0; r < kRows; ++r) {
      if (t % 64 == 0) next.step();
      const float* const scores = ws.scores + (h + r) * ws.score_stride + t;
      const auto exponential = [&](const float* x) {
        return exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x), reference[r]), scale));
      };
      const __m512 low = exponential(scores), high = exponential(scores + 16);
      const __m512bh rounded = _mm512_cvtne2ps_pbh(high, low);
      _mm512_storeu_si512(ws.p + (h + r) * ws.p_stride + t, reinterpret_cast<__m512i>(rounded));
      total[r] = _mm512_add_ps(total[r], _mm512_add_ps(low, high));
      rounded_total[r] = _mm512_dpbf16_ps(rounded_total[r], rounded, ones);
    }
  for (int r = 0; r < kRows; ++r) {
    ws.sum[h + r] += sum_of_lanes(total[r]);
    ws.rounded_sum[h + r] += sum_of_lanes(rounded_total[r]);
  }
}

/// Scores -> probabilities; brings earlier sums and O to the new maxima. Several rows at a time, since the
/// steps of one wait for each other.
inline void softmax(const UnitShape& shape, const Workspace& ws, std::int64_t columns, Prefetcher& next) {
  constexpr std::int64_t at_once = 4;
  const std::int64_t heads = shape.heads, v_dim = shape.layout.v_dim;
  if (columns % 32 != 0)
    for (std::int64_t h = 0; h < heads; ++h)
      std::fill_n(ws.scores + h * ws.score_stride + columns, 16, -infinity);
  std::copy_n(ws.max, heads, ws.factor);
  std::int64_t h = 0;
  for (; h + at_once <= heads; h += at_once) update_max<at_once>(ws, h, columns);
  for (; h < heads; ++h) update_max<1>(ws, h, columns);
  for (std::int64_t first = 0; first < heads; first += 16) {
    const __m512 max = _mm512_load_ps(ws.max + first);
    const __m512 empty = _mm512_set1_ps(-infinity);
    const __m512 reference = _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(max, empty, _CMP_NEQ_UQ), max);
    const __m512 grown = _mm512_sub_ps(_mm512_load_ps(ws.factor + first), reference);
    const __m512 factor = exp2_avx512(_mm512_mul_ps(grown, _mm512_set1_ps(shape.scale_log2)));
    _mm512_store_ps(ws.factor + first, factor);
    _mm512_store_ps(ws.sum + first, _mm512_mul_ps(_mm512_load_ps(ws.sum + first), factor));
    _mm512_store_ps(ws.rounded_sum + first, _mm512_mul_ps(_mm512_load_ps(ws.rounded_sum + first), factor));
  }
  for (h = 0; h + at_once <= heads; h += at_once)
    exponentials<at_once>(ws, h, columns, shape.scale_log2, next);
  for (; h < heads; ++h) exponentials<1>(ws, h, columns, shape.scale_log2, next);
  for (h = 0; h < heads; ++h) {
    if (ws.factor[h] == 1.0f) continue;
    for (std::int64_t d = 0; d < v_dim; ++d) ws.o[h * v_dim + d] *= ws.factor[h];
  }
}

}  // namespace helix::cpu::gqa

#pragma GCC pop_options
#endif
