// Gated units (Shazeer 2020) of rows: SwiGLU, silu(g) = g sigmoid(g); gpt-oss's, which clamps; GeGLU by the approximation
// with tanh, of which 1 + tanh(z) = 2 sigmoid(2 z). Six bytes a value.
#include <algorithm>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/cpu/small/vector_exp.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

HELIX_SIMD_CLONES void swiglu_row(std::int64_t n, const BF16* gate, const BF16* up, BF16* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = to_float(gate[i]);
    out[i] = to_bf16(g * sigmoid_without_nan(g) * to_float(up[i]));
  }
}

HELIX_SIMD_CLONES void clamped_row(std::int64_t n, float alpha, float limit, const BF16* gate, const BF16* up,
                                   BF16* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    float g = to_float(gate[i]), u = to_float(up[i]);
    g = g > limit ? limit : g;  // a NaN stays one
    u = u > limit ? limit : u < -limit ? -limit : u;
    out[i] = to_bf16(g * sigmoid_without_nan(alpha * g) * (u + 1.0f));
  }
}

HELIX_SIMD_CLONES void geglu_row(std::int64_t n, const BF16* gate, const BF16* up, BF16* out) {
  constexpr float twice_root = 1.5957691216f;  // 2 sqrt(2 / pi)
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const float g = to_float(gate[i]);
    // Beyond 10 the sigmoid is 0 or 1, and the cube would overflow.
    const float x = g > 10.0f ? 10.0f : g < -10.0f ? -10.0f : g;
    const float z = twice_root * (x + 0.044715f * x * x * x);
    out[i] = to_bf16(g * sigmoid_without_nan(z) * to_float(up[i]));
  }
}

}  // namespace

void gated(const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up, BF16* out,
           int threads) {
  constexpr std::int64_t block = 1024;
  const std::int64_t blocks = (f + block - 1) / block;
#pragma omp parallel for collapse(2) num_threads(threads) if (m * blocks > 1)
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t begin = i * block, n = std::min(block, f - begin);
      const BF16* const gate = gate_up + row * 2 * f + begin;
      BF16* const y = out + row * f + begin;
      switch (unit.kind) {
        case GatedUnit::Kind::silu:
          swiglu_row(n, gate, gate + f, y);
          break;
        case GatedUnit::Kind::clamped_silu:
          clamped_row(n, static_cast<float>(unit.alpha), static_cast<float>(unit.limit), gate, gate + f, y);
          break;
        case GatedUnit::Kind::gelu_tanh:
          geglu_row(n, gate, gate + f, y);
          break;
      }
    }
  }
}

}  // namespace helix::cpu
