// The arithmetic of the fp64 reference: plain loops over doubles.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::reference {

using Vector = std::vector<double>;

double dot(std::span<const double> a, std::span<const double> b);
double dot(std::span<const float> a, std::span<const double> b);
/// y += factor * x
void add_scaled(double factor, std::span<const double> x, std::span<double> y);

/// x becomes what NVFP4 holds of it, in blocks of 16 from the first on.
void store_as_nvfp4(std::span<float> x);

/// x / sqrt(mean(x^2) + eps) * gain
void rms_norm(std::span<double> x, const std::vector<BF16>& gain, double eps);

double sigmoid(double x);

/// (x - mean) / sqrt(variance + eps) * gain + bias (empty: none)
void layer_norm(std::span<double> x, const std::vector<BF16>& gain, const std::vector<BF16>& bias,
                double eps);

Vector gated(const GatedUnit& unit, const Vector& gate, const Vector& up);

struct Rope {
  std::vector<float> inv_freq;
  double amplitude = 1.0;
  bool interleaved = false;
};

/// Turns the pairs of x (2 * inv_freq.size() values) by position * inv_freq.
void rotate(const Rope& rope, std::int64_t position, std::span<double> x);

}  // namespace helix::reference
