#include "kernels/reference/synthetic_weights.hpp"

#include <algorithm>
#include <iterator>

#include "kernels/ops/simd_clones.hpp"
#include "kernels/ops/synthetic.hpp"

namespace helix::reference {
namespace {

HELIX_SIMD_CLONES void unit_values(std::uint32_t row, float scale, std::size_t n, float* out) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i)
    out[i] = scale * synthetic::unit_value(row, static_cast<std::uint32_t>(i));
}

HELIX_SIMD_CLONES void fp8_values(std::uint32_t row, std::size_t n, float* out) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i)
    out[i] = synthetic::fp8_unit_value(synthetic::unit_value(row, static_cast<std::uint32_t>(i)));
}

HELIX_SIMD_CLONES void multiply_by(float factor, float* x, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) x[i] *= factor;
}

/// Row `r` as the dtype holds it, before the matrix's scale.
void make_row(const WeightSlice& whole, std::int64_t r, DType dtype, std::span<float> out) {
  const std::uint32_t row = synthetic::row_key(whole.key, r);
  if (dtype == DType::fp8) return fp8_values(row, out.size(), out.data());
  // The scales of stored weights are of this order (weight_plan.hpp), where e4m3 has all its digits.
  constexpr float tensor = 2048.0f;
  unit_values(row, dtype == DType::nvfp4 ? tensor : 1.0f, out.size(), out.data());
  if (dtype != DType::nvfp4) return;
  store_as_nvfp4(out);
  multiply_by(1.0f / tensor, out.data(), out.size());
}

HELIX_SIMD_CLONES double dot_kept(const BF16* a, const double* b, std::size_t n) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(to_float(a[i])) * b[i];
  return sum;
}

}  // namespace

std::vector<BF16>* SyntheticWeights::kept(const WeightSlice& whole, DType dtype) {
  const Key key{whole.key, whole.rows, whole.cols, dtype};
  const auto known = kept_.find(key);
  if (known != kept_.end()) return &known->second;
  const auto bytes = static_cast<std::size_t>(whole.rows * whole.cols) * sizeof(BF16);
  if (bytes > room_) return nullptr;
  room_ -= bytes;
  std::vector<BF16>& values = kept_[key];
  values.reserve(bytes / sizeof(BF16));
  return &values;
}

Vector SyntheticWeights::multiply(const WeightSlice& whole, DType dtype, std::span<const double> x) {
  const auto cols = static_cast<std::size_t>(whole.cols);
  std::vector<BF16>* const values = kept(whole, dtype);
  std::vector<float> row(cols);
  Vector y;
  for (std::int64_t r = 0; r < whole.rows; ++r) {
    const auto first = static_cast<std::size_t>(r) * cols;
    double sum = 0.0;
    if (values != nullptr && values->size() > first) {
      sum = dot_kept(values->data() + first, x.data(), cols);
    } else {
      make_row(whole, r, dtype, row);
      if (values != nullptr) std::ranges::transform(row, std::back_inserter(*values), to_bf16);
      sum = dot(std::span<const float>(row), x);
    }
    y.push_back(static_cast<double>(whole.scale) * sum);
  }
  return y;
}

Vector multiply(const WeightSlice& whole, DType dtype, std::span<const double> x) {
  return SyntheticWeights(0).multiply(whole, dtype, x);
}

Vector weight_row(const WeightSlice& whole, std::int64_t row) {
  Vector y(static_cast<std::size_t>(whole.cols));
  const std::uint32_t key = synthetic::row_key(whole.key, row);
  for (std::size_t i = 0; i < y.size(); ++i)
    y[i] = static_cast<double>(whole.scale * synthetic::unit_value(key, static_cast<std::uint32_t>(i)));
  return y;
}

}  // namespace helix::reference
