// What is added to rows: a bias that all of them get, four bytes a value; rows of another block, six. And what
// scales all of a row's values: a gate of its own, or its position.
#include <cmath>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/cpu/small/vector_exp.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

HELIX_SIMD_CLONES void add_row(std::int64_t n, const BF16* x, BF16* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = to_bf16(to_float(y[i]) + to_float(x[i]));
}

HELIX_SIMD_CLONES void scale_row(std::int64_t n, float factor, BF16* y) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = to_bf16(factor * to_float(y[i]));
}

}  // namespace

void add_bias(std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y, std::int64_t ldy) {
  for (std::int64_t r = 0; r < rows; ++r) add_row(cols, bias, y + r * ldy);
}

void scale_by_position(std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                       const std::int64_t* positions, BF16* y, std::int64_t ldy) {
  for (std::int64_t r = 0; r < rows; ++r) {
    const auto periods = static_cast<float>(1 + positions[r] / growth.period);
    scale_row(cols, 1.0f + growth.rate * std::log(periods), y + r * ldy);
  }
}

void add(std::int64_t count, const BF16* x, BF16* y) {
  add_row(count, x, y);
}

void gate_rows(std::int64_t rows, std::int64_t cols, const float* logits, BF16* y) {
  for (std::int64_t r = 0; r < rows; ++r) scale_row(cols, sigmoid_without_nan(logits[r]), y + r * cols);
}

}  // namespace helix::cpu
