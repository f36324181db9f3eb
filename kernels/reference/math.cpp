#include "kernels/reference/math.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/simd_clones.hpp"

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

HELIX_SIMD_CLONES double dot_floats(const float* a, const double* b, std::size_t n) {
  double sum = 0.0;
#pragma omp simd reduction(+ : sum)
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
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

}  // namespace

void store_as_nvfp4(std::span<float> x) {
  round_to_nvfp4(x.data(), x.size());
}

double dot(std::span<const float> a, std::span<const double> b) {
  return dot_floats(a.data(), b.data(), a.size());
}

double dot(std::span<const double> a, std::span<const double> b) {
  return dot_values(a.data(), b.data(), a.size());
}

void add_scaled(double factor, std::span<const double> x, std::span<double> y) {
  add_values(factor, x.data(), y.data(), x.size());
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
