// Partial attention results of KVP shards: packing for the all-to-all, and the exact merge of what arrives.
// With partials (O_p, LSE_p), LSE in natural log, over disjoint sets of tokens:
//   M = max_p LSE_p,  w_p = exp(LSE_p - M),  O = sum_p w_p O_p / sum_p w_p
// A shard without tokens has LSE_p = -inf and an O_p that was never written: it is left out, not multiplied
// by w_p = 0, because 0 * NaN = NaN. No shard with tokens: O = 0. An LSE_p that is NaN makes O NaN. Reads
// parts * batch * heads * (2 v_dim + 4) bytes. Sinks are scores without values, which one of the shards adds to its
// own before.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();
constexpr std::int64_t kBlock = 512;  // values of a row accumulated on the stack

HELIX_SIMD_CLONES void add_scaled(std::int64_t n, float weight, const BF16* x, float* sum) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) sum[i] += weight * to_float(x[i]);
}

HELIX_SIMD_CLONES void store_scaled(std::int64_t n, float factor, const float* x, BF16* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) out[i] = to_bf16(factor * x[i]);
}

HELIX_SIMD_CLONES void scale(std::int64_t n, float factor, BF16* x) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) x[i] = to_bf16(factor * to_float(x[i]));
}

/// One head: part p's row at o + p * stride_bytes and its LSE at lse + p * stride_bytes.
void merge_row(std::int64_t parts, std::int64_t n, const std::byte* o, const std::byte* lse,
               std::size_t stride_bytes, BF16* out) {
  const auto lse_of = [&](std::int64_t p) {
    return *reinterpret_cast<const float*>(lse + static_cast<std::size_t>(p) * stride_bytes);
  };
  float largest = kEmpty;
  for (std::int64_t p = 0; p < parts; ++p) {
    if (!(lse_of(p) <= largest)) largest = lse_of(p);  // also takes a NaN
  }
  float sum[kBlock] = {};
  float total = 0.0f;
  for (std::int64_t p = 0; p < parts; ++p) {
    if (lse_of(p) == kEmpty) continue;
    const float weight = std::exp(lse_of(p) - largest);
    total += weight;
    add_scaled(n, weight, reinterpret_cast<const BF16*>(o + static_cast<std::size_t>(p) * stride_bytes), sum);
  }
  store_scaled(n, largest == kEmpty ? 0.0f : 1.0f / total, sum, out);
}

}  // namespace

// exp(lse) / (exp(lse) + exp(sink)) = 1 / (1 + exp(sink - lse)).
void add_sinks(std::int64_t batch, std::int64_t heads, std::int64_t v_dim, const float* sinks, BF16* o,
               float* lse, int threads) {
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const std::int64_t at = b * heads + h;
      BF16* const row = o + at * v_dim;
      const float before = lse[at], sink = sinks[h];
      if (before == kEmpty) {
        std::fill_n(row, v_dim, BF16{});
        lse[at] = sink;
        continue;
      }
      scale(v_dim, 1.0f / (1.0f + std::exp(sink - before)), row);
      lse[at] = std::max(before, sink) + std::log1p(std::exp(-std::fabs(sink - before)));
    }
  }
}

void pack_partials(const PartialShape& shape, const BF16* o, const float* lse, std::byte* packed,
                   int threads) {
  const std::int64_t row_values = shape.heads * shape.v_dim;
  const auto row_bytes = static_cast<std::size_t>(row_values) * sizeof(BF16);
  const auto row_lse_bytes = static_cast<std::size_t>(shape.heads) * sizeof(float);
#pragma omp parallel for collapse(2) num_threads(threads) if (shape.batch > 1)
  for (std::int64_t p = 0; p < shape.parts; ++p) {
    for (std::int64_t b = 0; b < shape.batch; ++b) {
      std::byte* chunk = packed + static_cast<std::size_t>(p) * shape.chunk_bytes();
      const std::int64_t from = b * shape.parts + p;
      std::memcpy(chunk + static_cast<std::size_t>(b) * row_bytes, o + from * row_values, row_bytes);
      std::memcpy(chunk + shape.lse_offset() + static_cast<std::size_t>(b) * row_lse_bytes,
                  lse + from * shape.heads, row_lse_bytes);
    }
  }
}

void merge_partials(const PartialShape& shape, const std::byte* packed, BF16* out, int threads) {
  const std::int64_t rows = shape.batch * shape.heads;
#pragma omp parallel for num_threads(threads) if (shape.batch > 1)
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* lse = packed + shape.lse_offset() + static_cast<std::size_t>(r) * sizeof(float);
    for (std::int64_t d = 0; d < shape.v_dim; d += kBlock) {
      const std::int64_t at = r * shape.v_dim + d;
      merge_row(shape.parts, std::min(kBlock, shape.v_dim - d),
                packed + static_cast<std::size_t>(at) * sizeof(BF16), lse, shape.chunk_bytes(), out + at);
    }
  }
}

}  // namespace helix::cpu
