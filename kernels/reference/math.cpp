#include "kernels/reference/math.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/simd_clones.hpp"
#include "kernels/ops/synthetic.hpp"

namespace helix::reference {
namespace {

HELIX_SIMD_CLONES double dot_values(const double* a, const double* b, std::size_t n) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

HELIX_SIMD_CLONES void add_values(double factor, const double* x, double* y, std::size_t n) {
#pragma omp simd
  for (std::size_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

HELIX_SIMD_CLONES double dot_synthetic_fp8(std::uint32_t row, const double* x, std::uint32_t n) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (std::uint32_t i = 0; i < n; ++i)
    sum += static_cast<double>(synthetic::fp8_unit_value(synthetic::unit_value(row, i))) * x[i];
  return sum;
}

HELIX_SIMD_CLONES double dot_synthetic(std::uint32_t row, const double* x, std::uint32_t n) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (std::uint32_t i = 0; i < n; ++i) sum += static_cast<double>(synthetic::unit_value(row, i)) * x[i];
  return sum;
}

HELIX_SIMD_CLONES void synthetic_values(std::uint32_t row, float scale, std::uint32_t n, float* out) {
#pragma omp simd
  for (std::uint32_t i = 0; i < n; ++i) out[i] = scale * synthetic::unit_value(row, i);
}

HELIX_SIMD_CLONES void round_to_nvfp4(float* x, std::size_t n) {
  for (std::size_t begin = 0; begin < n; begin += kNvfp4Block) {
    const std::size_t end = std::min<std::size_t>(n, begin + kNvfp4Block);
    float largest = 0.0f;
    for (std::size_t i = begin; i < end; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float scale = to_float(nvfp4_scale(largest));
    const float divisor = scale == 0.0f ? 1.0f : scale;
#pragma omp simd
    for (std::size_t i = begin; i < end; ++i) x[i] = rounded_to_e2m1(x[i] / divisor) * scale;
  }
}

double dot_synthetic_nvfp4(std::uint32_t row, const double* x, std::uint32_t n) {
  // The scales of stored weights are of this order (weight_plan.hpp), where e4m3 has all its digits.
  constexpr float tensor = 2048.0f;
  constexpr std::uint32_t piece = 64 * kNvfp4Block;
  float values[piece];
  double sum = 0.0;
  for (std::uint32_t begin = 0; begin < n; begin += piece) {
    const std::uint32_t count = std::min(piece, n - begin);
    const std::uint32_t first = row + begin * synthetic::column_step;
    synthetic_values(first, tensor, count, values);
    round_to_nvfp4(values, count);
    double part = 0.0;
#pragma omp simd reduction(+ : part)
    for (std::uint32_t i = 0; i < count; ++i) part += static_cast<double>(values[i]) * x[begin + i];
    sum += part;
  }
  return sum / static_cast<double>(tensor);
}

}  // namespace

void store_as_nvfp4(std::span<float> x) {
  round_to_nvfp4(x.data(), x.size());
}

double dot(std::span<const double> a, std::span<const double> b) {
  return dot_values(a.data(), b.data(), a.size());
}

void add_scaled(double factor, std::span<const double> x, std::span<double> y) {
  add_values(factor, x.data(), y.data(), x.size());
}

Vector multiply(const WeightSlice& weight, DType dtype, std::span<const double> x) {
  const auto dot_row = dtype == DType::fp8     ? dot_synthetic_fp8
                       : dtype == DType::nvfp4 ? dot_synthetic_nvfp4
                                               : dot_synthetic;
  Vector y(static_cast<std::size_t>(weight.rows));
  for (std::size_t r = 0; r < y.size(); ++r) {
    const std::uint32_t row = synthetic::row_key(weight.key, static_cast<std::int64_t>(r));
    y[r] =
        static_cast<double>(weight.scale) * dot_row(row, x.data(), static_cast<std::uint32_t>(weight.cols));
  }
  return y;
}

Vector weight_row(const WeightSlice& weight, std::int64_t row) {
  Vector y(static_cast<std::size_t>(weight.cols));
  const std::uint32_t key = synthetic::row_key(weight.key, row);
  for (std::size_t i = 0; i < y.size(); ++i) {
    y[i] = static_cast<double>(weight.scale * synthetic::unit_value(key, static_cast<std::uint32_t>(i)));
  }
  return y;
}

void rms_norm(std::span<double> x, const std::vector<BF16>& gain, double eps) {
  const double rms = std::sqrt(dot(x, x) / static_cast<double>(x.size()) + eps);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] *= static_cast<double>(to_float(gain[i])) / rms;
}

double sigmoid(double x) {
  return 1.0 / (1.0 + std::exp(-x));
}

void layer_norm(std::span<double> x, const std::vector<BF16>& gain, const std::vector<BF16>& bias,
                double eps) {
  const auto n = static_cast<double>(x.size());
  double mean = 0.0;
  for (const double value : x) mean += value / n;
  for (double& value : x) value -= mean;
  const double deviation = std::sqrt(dot(x, x) / n + eps);
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] *= static_cast<double>(to_float(gain[i])) / deviation;
    if (!bias.empty()) x[i] += static_cast<double>(to_float(bias[i]));
  }
}

Vector gated(const GatedUnit& unit, const Vector& gate, const Vector& up) {
  const auto value = [&unit](double g, double u) {
    switch (unit.kind) {
      case GatedUnit::Kind::silu:
        return g * sigmoid(g) * u;
      case GatedUnit::Kind::clamped_silu:
        g = std::min(g, unit.limit);
        return g * sigmoid(unit.alpha * g) * (std::clamp(u, -unit.limit, unit.limit) + 1);
      case GatedUnit::Kind::gelu_tanh:
        return g / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (g + 0.044715 * g * g * g))) * u;
    }
    return 0.0;
  };
  Vector out(gate.size());
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = value(gate[i], up[i]);
  return out;
}

void rotate(const Rope& rope, std::int64_t position, std::span<double> x) {
  const std::size_t pairs = rope.inv_freq.size();
  for (std::size_t i = 0; i < pairs; ++i) {
    double& first = rope.interleaved ? x[2 * i] : x[i];
    double& second = rope.interleaved ? x[2 * i + 1] : x[i + pairs];
    const double angle = static_cast<double>(position) * static_cast<double>(rope.inv_freq[i]);
    const double c = rope.amplitude * std::cos(angle), s = rope.amplitude * std::sin(angle);
    const double turned = first * c - second * s;
    second = second * c + first * s;
    first = turned;
  }
}

}  // namespace helix::reference
