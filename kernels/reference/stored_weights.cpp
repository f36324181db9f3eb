#include "kernels/reference/stored_weights.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/ops/fp8.hpp"
#include "kernels/ops/simd_clones.hpp"
#include "kernels/state/weight_plan.hpp"

namespace helix::reference {
namespace {

HELIX_SIMD_CLONES void round_to_bf16(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = to_float(to_bf16(x[i]));
}

/// A row at a scale of its own: rounding is the same at every power of two.
void round_to(DType dtype, std::span<float> row) {
  if (dtype == DType::bf16) return round_to_bf16(row.data(), std::ssize(row));
  float largest = 0.0f;
  for (const float x : row) largest = std::max(largest, std::fabs(x));
  const float scale = power_of_two_scale(largest, dtype);
  for (float& x : row) x /= scale;
  if (dtype == DType::nvfp4) {
    store_as_nvfp4(row);
  } else {
    for (float& x : row) x = to_float(to_fp8(x));
  }
  for (float& x : row) x *= scale;
}

}  // namespace

Vector multiply_stored(const WeightSource& source, const WeightSlice& whole, DType dtype,
                       std::span<const double> x) {
  constexpr std::int64_t strip = 32;
  const std::int64_t cols = whole.cols;
  Vector y;
  std::vector<float> rows(static_cast<std::size_t>(strip * cols));
  for (std::int64_t first = 0; first < whole.rows; first += strip) {
    const std::int64_t count = std::min(strip, whole.rows - first);
    source.read(whole, first, count, rows.data());
    for (std::int64_t r = 0; r < count; ++r) {
      const std::span<float> row(rows.data() + r * cols, static_cast<std::size_t>(cols));
      round_to(dtype, row);
      y.push_back(dot(std::span<const float>(row), x));
    }
  }
  return y;
}

Vector stored_row(const WeightSource& source, const WeightSlice& whole, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(whole.cols));
  source.read(whole, row, 1, values.data());
  round_to(DType::bf16, values);
  return {values.begin(), values.end()};
}

}  // namespace helix::reference
