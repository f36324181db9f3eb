#include "kernels/cpu/attention/tail.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/machine/kv_fp8.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

HELIX_SIMD_CLONES void mix(std::int64_t n, float weight_x, float weight_y, const float* y, float* x) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] = weight_x * x[i] + weight_y * y[i];
}

HELIX_SIMD_CLONES float dot(std::int64_t n, const BF16* x, const float* y) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < n; ++i) sum += to_float(x[i]) * y[i];
  return sum;
}

float value_at(const KvLayout& layout, const std::byte* at) {
  if (layout.fp8) return to_float(from_kv_code(static_cast<std::uint8_t>(*at)));
  BF16 value;
  std::memcpy(&value, at, sizeof value);
  return to_float(value);
}

}  // namespace

void TailToken::load(const KvView& cache, const KvLayout& layout, std::int64_t request, std::int64_t kv_head,
                     std::int64_t token) const {
  const std::int64_t slot = token % layout.page_tokens;
  const std::byte* const part = head_of_page(cache, layout, request, token / layout.page_tokens, kv_head);
  for (std::int64_t d = 0; d < layout.head_dim; ++d) k[d] = value_at(layout, part + layout.k_offset(slot, d));
  if (layout.mla) {
    std::copy_n(k, layout.v_dim, v);
    return;
  }
  for (std::int64_t d = 0; d < layout.v_dim; ++d)
    v[d] = value_at(layout, part + layout.k_bytes + layout.v_offset(slot, d));
}

void TailToken::add(const KvLayout& layout, const BF16* q, float scale_log2, const Partial& to,
                    std::int64_t row) const {
  merge_row(layout.v_dim, dot(layout.head_dim, q, k) * scale_log2, v, to, row);
}

void merge_row(std::int64_t v_dim, float lse2, const float* o, const Partial& sum, std::int64_t row) {
  constexpr float none = -std::numeric_limits<float>::infinity();
  float* const of_row = sum.o + row * v_dim;
  const float before = sum.lse2[row], top = std::max(before, lse2);
  if (lse2 == none) return;
  if (before == none) {
    std::copy_n(o, v_dim, of_row);
    sum.lse2[row] = lse2;
    return;
  }
  const float weight_before = std::exp2(before - top), weight = std::exp2(lse2 - top);
  const float total = weight_before + weight;
  mix(v_dim, weight_before / total, weight / total, o, of_row);
  sum.lse2[row] = top + std::log2(total);
}

}  // namespace helix::cpu
