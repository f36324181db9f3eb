// The softmax between GQA's two products in bf16: scores become bf16 probabilities, a block of tokens at a
// time and, within it, head by head, so that the caller can put the heads between its products on AMX tiles.
//
// Probabilities are relative to a reference that follows the maximum only when that has grown by more than
// 2^8: P and the sums are floating point and lose nothing, and earlier sums are rarely rescaled.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention/gqa_workspace.hpp"

#if HELIX_HAVE_AMX
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vbmi,avx512bf16,gfni")

namespace helix::cpu::gqa {

constexpr float infinity = std::numeric_limits<float>::infinity();

class Softmax {
 public:
  Softmax(const UnitShape& shape, const Chunk& chunk, const Workspace& ws)
      : ws_(ws), chunk_(chunk), v_dim_(shape.layout.v_dim), scale_log2_(shape.scale_log2) {}

  /// The scores of `heads` heads from `head` on, for `columns` slots of the chunk from `column` on. They must
  /// have been stored when the first head's turn comes, and all heads have had theirs before the next start.
  void start(float* scores, std::int64_t head, std::int64_t heads, std::int64_t column,
             std::int64_t columns) {
    scores_ = scores;
    p_ = ws_.p + head * ws_.p_stride + column;
    sum_ = ws_.sum + 16 * head;
    rounded_sum_ = ws_.rounded_sum + 16 * head;
    reference_ = ws_.reference + head;
    heads_left_ = heads;
    column_ = column;
    columns_ = columns;
    masked_ = false;
  }

  std::int64_t heads_left() const { return heads_left_; }

  /// One head's scores -> P; brings earlier sums and O to another reference if the scores have outgrown it.
  [[gnu::noinline]] void next_head() {
    if (!masked_) mask();
    const float* const scores = scores_;
    const __m512 scale = _mm512_set1_ps(scale_log2_);
    const std::int64_t columns = columns_;
    __m512 low = _mm512_load_ps(scores), high = _mm512_load_ps(scores + 16);
    for (std::int64_t t = 32; t < columns; t += 32) {
      low = _mm512_max_ps(low, _mm512_load_ps(scores + t));
      high = _mm512_max_ps(high, _mm512_load_ps(scores + t + 16));
    }
    __m512 reference = _mm512_set1_ps(*reference_);
    // What is unordered counts as grown: -inf against -inf, NaN.
    const __m512 grown = _mm512_mul_ps(_mm512_sub_ps(_mm512_max_ps(low, high), reference), scale);
    if (_mm512_cmp_ps_mask(grown, _mm512_set1_ps(8.0f), _CMP_NLE_UQ) != 0)
      reference = _mm512_set1_ps(raise_reference(max_of_lanes(_mm512_max_ps(low, high))));
    const auto ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
    __m512 sum = _mm512_load_ps(sum_), rounded_sum = _mm512_load_ps(rounded_sum_);
    std::uint16_t* const p = p_;
    for (std::int64_t t = 0; t < columns; t += 32) {
      const auto exponential = [&](const float* x) {
        return exp2_avx512(_mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(x), reference), scale));
      };
      const __m512 even = exponential(scores + t), odd = exponential(scores + t + 16);
      const __m512bh rounded = _mm512_cvtne2ps_pbh(odd, even);
      _mm512_store_si512(p + t, reinterpret_cast<__m512i>(rounded));
      sum = _mm512_add_ps(sum, _mm512_add_ps(even, odd));
      rounded_sum = _mm512_dpbf16_ps(rounded_sum, rounded, ones);
    }
    _mm512_store_ps(sum_, sum);
    _mm512_store_ps(rounded_sum_, rounded_sum);
    scores_ += ws_.score_stride();
    p_ += ws_.p_stride;
    sum_ += 16;
    rounded_sum_ += 16;
    ++reference_;
    --heads_left_;
    amx::publish();
  }

  void next_heads(std::int64_t count) {
    for (; count > 0 && heads_left_ > 0; --count) next_head();
  }

 private:
  /// Scores of slots that hold garbage, or that make the columns a multiple of 32, become -inf.
  [[gnu::noinline]] void mask() {
    masked_ = true;
    const auto hide = [&](std::int64_t first, std::int64_t end) {
      for (std::int64_t i = 0; first < end && i < heads_left_; ++i)
        std::fill(scores_ + i * ws_.score_stride() + first, scores_ + i * ws_.score_stride() + end,
                  -infinity);
    };
    for (const Segment* s = chunk_.segments; s != chunk_.segments + chunk_.count; ++s)
      if (s->valid < s->slots)
        hide(std::max<std::int64_t>(0, s->column + s->valid - column_),
             std::min(columns_, s->column + s->slots - column_));
    hide(columns_, (columns_ + 31) / 32 * 32);
  }

  /// -> what probabilities of this head are relative to from here on, given the block's largest score.
  [[gnu::noinline]] float raise_reference(float top) {
    const float old = *reference_;
    if (!(top > old)) return old == -infinity ? 0.0f : old;  // all -inf so far: any will do
    *reference_ = top;
    if (old == -infinity) return top;  // there are no earlier sums
    const __m512 factor = exp2_avx512(_mm512_mul_ps(_mm512_set1_ps(old - top), _mm512_set1_ps(scale_log2_)));
    const auto multiply = [&](float* x) { _mm512_store_ps(x, _mm512_mul_ps(_mm512_load_ps(x), factor)); };
    multiply(sum_);
    multiply(rounded_sum_);
    float* const o = ws_.o + (reference_ - ws_.reference) * v_dim_;
    for (std::int64_t d = 0; d < v_dim_; d += 16) multiply(o + d);
    // The chunk's blocks before this one, whose P has not met V.
    for (std::uint16_t* p = p_ - column_; p != p_; p += 16) {
      const __m512 wide =
          as_floats(reinterpret_cast<__m256bh>(_mm256_load_si256(reinterpret_cast<__m256i*>(p))));
      _mm256_store_si256(reinterpret_cast<__m256i*>(p),
                         reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_mul_ps(wide, factor))));
    }
    return top;
  }

  const Workspace& ws_;
  const Chunk& chunk_;
  std::int64_t v_dim_;
  float scale_log2_;
  // Of the next head.
  float *scores_ = nullptr, *sum_ = nullptr, *rounded_sum_ = nullptr, *reference_ = nullptr;
  std::uint16_t* p_ = nullptr;
  std::int64_t heads_left_ = 0, column_ = 0, columns_ = 0;
  bool masked_ = true;
};

/// The state before a unit's first chunk. Rows of P that no head has stay zero.
inline void clear_sums(const UnitShape& shape, const Workspace& ws) {
  std::fill_n(ws.p, ws.rows() * ws.p_stride, std::uint16_t{0});
  std::fill_n(ws.o, ws.rows() * shape.layout.v_dim, 0.0f);
  std::fill_n(ws.reference, ws.rows(), -infinity);
  for (float* zero : {ws.sum, ws.rounded_sum}) std::fill_n(zero, ws.rows() * 16, 0.0f);
}

/// The unit's results after its last chunk.
inline void divide_sums(const UnitShape& shape, const Workspace& ws, float* o, float* lse2) {
  const std::int64_t v_dim = shape.layout.v_dim;
  for (std::int64_t h = 0; h < shape.heads; ++h) {
    const float sum = sum_of_lanes(_mm512_load_ps(ws.sum + 16 * h));
    const float rounded_sum = sum_of_lanes(_mm512_load_ps(ws.rounded_sum + 16 * h));
    lse2[h] = ws.reference[h] * shape.scale_log2 + std::log2(sum);
    // Dividing by the rounded sum cancels the rounding of probabilities that are alike. Zero:
    // all scores -inf.
    const float factor = rounded_sum == 0.0f ? 0.0f : 1.0f / rounded_sum;
    for (std::int64_t d = 0; d < v_dim; ++d) o[h * v_dim + d] = ws.o[h * v_dim + d] * factor;
  }
}

}  // namespace helix::cpu::gqa

#pragma GCC pop_options
#endif
