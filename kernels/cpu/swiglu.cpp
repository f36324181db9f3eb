// SwiGLU (Shazeer 2020): out = silu(gate) * up. Six bytes a value. With e = exp(-|g|), which cannot overflow:
//   silu(g) = g / (1 + e) for g >= 0,   g e / (1 + e) for g < 0
// exp is written out here because the compiler does not vectorise the library's without -ffast-math:
// exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2, exp(r) by its Taylor polynomial of degree 6,
// whose relative error 1.2e-7 is the order of one fp32 rounding.
#include <algorithm>
#include <bit>

#include "kernels/cpu/small_ops.hpp"
#include "kernels/simd_clones.hpp"

namespace helix::cpu {
namespace {

/// exp(-|x|), not below exp(-87) where fp32 stops being normal. A NaN counts as large.
inline float exp_minus_abs(float x) {
  // Minimum of the bit patterns, which order non-negative floats: a float comparison would not be vectorised.
  constexpr auto limit = std::bit_cast<std::uint32_t>(87.0f);
  const float a = std::bit_cast<float>(std::min(std::bit_cast<std::uint32_t>(x) & 0x7fffffffu, limit));
  constexpr float to_integer = 0x1.8p23f;  // adding it leaves the rounded integer in the low mantissa bits
  const float shifted = a * -1.44269504f + to_integer;
  const float n = shifted - to_integer;
  const float r = (-a - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts (Cody and Waite)
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
    const float e = exp_minus_abs(g);
    const float sigmoid = ((gate[i].bits & 0x8000u) != 0 ? e : 1.0f) / (1.0f + e);
    out[i] = to_bf16(g * sigmoid * to_float(up[i]));
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
