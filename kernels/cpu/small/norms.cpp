// RMSNorm (B. Zhang, R. Sennrich 2019): y_i = x_i / sqrt(mean_j(x_j^2) + eps) * gain_i. Sums and products in
// fp32, one rounding to bf16 at the end.
//   add_rms_norm, add_layer_norm     read delta [rows, cols] and residual, write residual and out: 12 bytes a value
//   rms_norm_heads, layer_norm_heads in place: 4 bytes a value
// Of vectors that are spread over ranks each takes the sum of its part's squares, and the norm from all of them.
// LayerNorm (J. L. Ba et al. 2016): y_i = (x_i - mean) / sqrt(variance + eps) * gain_i + bias_i, the same way.
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

HELIX_SIMD_CLONES float squares_of(std::int64_t cols, const BF16* x) {
  float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < cols; ++i) squares += to_float(x[i]) * to_float(x[i]);
  return squares;
}

HELIX_SIMD_CLONES void scale_in_place(std::int64_t cols, float inverse_rms, const BF16* gain, BF16* x) {
#pragma omp simd
  for (std::int64_t i = 0; i < cols; ++i) x[i] = to_bf16(to_float(x[i]) * inverse_rms * to_float(gain[i]));
}

float inverse_rms(float squares, std::int64_t cols, float eps) {
  return 1.0f / std::sqrt(squares / static_cast<float>(cols) + eps);
}

/// Twice over the row, so that a mean far from 0 costs no digits of the variance.
HELIX_SIMD_CLONES void layer_norm_in_place(std::int64_t cols, const BF16* gain, const BF16* bias, float eps,
                                           BF16* x) {
  float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < cols; ++i) sum += to_float(x[i]);
  const float mean = sum / static_cast<float>(cols);
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < cols; ++i) squares += (to_float(x[i]) - mean) * (to_float(x[i]) - mean);
  const float inverse = inverse_rms(squares, cols, eps);
  if (bias == nullptr) {
#pragma omp simd
    for (std::int64_t i = 0; i < cols; ++i)
      x[i] = to_bf16((to_float(x[i]) - mean) * inverse * to_float(gain[i]));
    return;
  }
#pragma omp simd
  for (std::int64_t i = 0; i < cols; ++i)
    x[i] = to_bf16((to_float(x[i]) - mean) * inverse * to_float(gain[i]) + to_float(bias[i]));
}

/// The same from a row in fp32.
HELIX_SIMD_CLONES void layer_norm_row(std::int64_t cols, const float* x, float eps, const BF16* gain,
                                      BF16* out) {
  float sum = 0.0f, squares = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (std::int64_t i = 0; i < cols; ++i) sum += x[i];
  const float mean = sum / static_cast<float>(cols);
#pragma omp simd reduction(+ : squares)
  for (std::int64_t i = 0; i < cols; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const float inverse = inverse_rms(squares, cols, eps);
#pragma omp simd
  for (std::int64_t i = 0; i < cols; ++i) out[i] = to_bf16((x[i] - mean) * inverse * to_float(gain[i]));
}

}  // namespace

void add_rms_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                  const BF16* gain, float eps, BF16* out, int threads) {
#pragma omp parallel for num_threads(threads) if (rows > 1)
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = residual + r * cols;
    const float squares = add_row(cols, delta ? delta + r * cols : nullptr, replace, row);
    scale_row(cols, row, inverse_rms(squares, cols, eps), gain, out + r * cols);
  }
}

void add_layer_norm(std::int64_t rows, std::int64_t cols, const BF16* delta, bool replace, float* residual,
                    const BF16* gain, float eps, BF16* out, int threads) {
#pragma omp parallel for num_threads(threads) if (rows > 1)
  for (std::int64_t r = 0; r < rows; ++r) {
    float* row = residual + r * cols;
    add_row(cols, delta ? delta + r * cols : nullptr, replace, row);
    layer_norm_row(cols, row, eps, gain, out + r * cols);
  }
}

void rms_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain, float eps,
                    HeadRows<BF16> x, int threads) {
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      BF16* const head = x.at(b, h);
      scale_in_place(cols, inverse_rms(squares_of(cols, head), cols, eps), gain, head);
    }
  }
}

void square_sums(std::int64_t batch, std::int64_t cols, const BF16* x, std::int64_t ldx, float* sums) {
  for (std::int64_t b = 0; b < batch; ++b) sums[b] = squares_of(cols, x + b * ldx);
}

void rms_norm_part(std::int64_t batch, std::int64_t cols, const BF16* gain, float eps,
                   const SquareSums& whole, BF16* x, std::int64_t ldx) {
  for (std::int64_t b = 0; b < batch; ++b) {
    float squares = 0.0f;
    for (std::int64_t p = 0; p < whole.parts; ++p) squares += whole.sums[p * whole.stride + b];
    scale_in_place(cols, inverse_rms(squares, whole.values, eps), gain, x + b * ldx);
  }
}

void layer_norm_heads(std::int64_t batch, std::int64_t heads, std::int64_t cols, const BF16* gain,
                      const BF16* bias, float eps, HeadRows<BF16> x, int threads) {
#pragma omp parallel for num_threads(threads) if (batch > 1)
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h)
      layer_norm_in_place(cols, gain + h * cols, bias ? bias + h * cols : nullptr, eps, x.at(b, h));
  }
}

}  // namespace helix::cpu
