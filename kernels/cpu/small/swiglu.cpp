// SwiGLU (Shazeer 2020): out = silu(gate) * up, silu(g) = g sigmoid(g). Six bytes a value.
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
