// SwiGLU (Shazeer 2020): out = silu(gate) * up with silu(g) = g / (1 + exp(-g)). Six bytes a value.
// exp is written out here because the compiler does not vectorise the library's without -ffast-math:
// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2, exp(r) by its Taylor polynomial of degree 6,
// whose relative error 1.2e-7 is the order of one fp32 rounding.
#include <algorithm>
#include <bit>

#include "kernels/cpu/small_ops.hpp"
#include "kernels/simd_clones.hpp"

namespace helix::cpu {
namespace {

/// exp(x) with x clamped to [-87, 88], where it is normal and finite. NaN stays NaN.
inline float vector_exp(float x) {
  x = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  constexpr float to_integer = 0x1.8p23f;  // adding it leaves the rounded integer in the low mantissa bits
  const float shifted = x * 1.44269504f + to_integer;
  const float n = shifted - to_integer;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts (Cody and Waite)
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const std::uint32_t power = (std::bit_cast<std::uint32_t>(shifted) + 127u) << 23;
  return p * std::bit_cast<float>(power);
}

HELIX_SIMD_CLONES void swiglu_row(std::int64_t n, const BF16* gate, const BF16* up, BF16* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = to_float(gate[i]);
    out[i] = to_bf16(g / (1.0f + vector_exp(-g)) * to_float(up[i]));
  }
}

}  // namespace

void swiglu(std::int64_t m, std::int64_t f, const BF16* gate_up, BF16* out, int threads) {
  constexpr std::int64_t block = 1024;
  const std::int64_t blocks = (f + block - 1) / block;
#pragma omp parallel for collapse(2) num_threads(threads) if (m * blocks > 1)
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t begin = i * block;
      const BF16* gate = gate_up + row * 2 * f + begin;
      swiglu_row(std::min(block, f - begin), gate, gate + f, out + row * f + begin);
    }
  }
}

}  // namespace helix::cpu
