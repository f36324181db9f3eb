// RMSNorm (B. Zhang, R. Sennrich 2019): y_i = x_i / sqrt(mean_j(x_j^2) + eps) * gain_i. Sums and products in
// fp32, one rounding to bf16 at the end.
//   add_rms_norm   reads delta [rows, cols] and residual, writes residual and out: 12 bytes a value
//   rms_norm_heads in place: 4 bytes a value
#include <cmath>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

/// residual (+)= delta; returns the sum of the residual's squares.
HELIX_SIMD_CLONES float add_row(std::int64_t cols, const BF16* delta, bool replace, float* residual) {
  float squares = 0.0f;
  if (delta == nullptr) {
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < cols; ++i) squares += residual[i] * residual[i];
  } else if (replace) {
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < cols; ++i) {
      residual[i] = to_float(delta[i]);
      squares += residual[i] * residual[i];
    }
  } else {
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < cols; ++i) {
      residual[i] += to_float(delta[i]);
      squares += residual[i] * residual[i];
    }
  }
  return squares;
}

HELIX_SIMD_CLONES void scale_row(std::int64_t cols, const float* x, float inverse_rms, const BF16* gain,
                                 BF16* out) {
#pragma omp simd
  for (std::int64_t i = 0; i < cols; ++i) out[i] = to_bf16(x[i] * inverse_rms * to_float(gain[i]));
}

HELIX_SIMD_CLONES void norm_in_place(std::int64_t cols, const BF16* gain, float eps, BF16* x) {
  float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < cols; ++i) squares += to_float(x[i]) * to_float(x[i]);
  const float inverse_rms = 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
#pragma omp simd
  for (std::int64_t i = 0; i < cols; ++i) x[i] = to_bf16(to_float(x[i]) * inverse_rms * to_float(gain[i]));
}

}  // namespace

void add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                  const BF16* gain, float eps, BF16* out, int threads) {
#pragma omp parallel for num_threads(threads) if (rows > 1)
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = residual + r * cols;
    const float squares = add_row(cols, delta ? delta + r * cols : nullptr, replace, row);
    const float inverse_rms = 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
    scale_row(cols, row, inverse_rms, gain, out + r * cols);
  }
}

void rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain, float eps,
                    HeadRows<BF16> x, int threads) {
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      norm_in_place(cols, gain, eps, x.at(b, h));
    }
  }
}

}  // namespace helix::cpu
