// The weights of one layer by name, synthetic or stored, and what the engine would leave in bf16 of what they give.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops/tensor_ids.hpp"
#include "kernels/reference/reference_model.hpp"

namespace helix::reference {

struct Layer {
  const ReferenceSetup& setup;
  std::int64_t layer;

  /// To bf16, where the engine would.
  void round(std::span<double> x) const;

  Vector multiply(Tensor tensor, std::span<const double> x, std::int64_t index = 0) const;
  /// Of products that the engine leaves in fp32.
  Vector multiply_wide(Tensor tensor, std::span<const double> x, std::int64_t index = 0) const;
  /// What joins the residual stream, whose sum no rank leaves unscaled.
  Vector multiply_out(Tensor tensor, std::span<const double> x, std::int64_t index = 0) const;
  /// `index`: of the expert whose part of the bias it is.
  void add_bias(Tensor bias, Vector& y, std::int64_t index = 0) const;

  std::vector<BF16> gain(Tensor tensor) const;
  void norm(Tensor tensor, std::span<double> x) const;
  /// Q or K, its heads of such a width one behind the other.
  void norm_heads(Tensor tensor, Vector& x) const;
  /// Of what is kept in fp32: the router's bias, sinks.
  std::vector<float> wide(Tensor tensor) const;

  /// down (gate x and up x in the model's gated unit)
  Vector gated(Tensor gate, Tensor up, Tensor down, const Vector& x, std::int64_t index = 0) const;
  Vector gated(const Vector& gate, const Vector& up, Tensor down, std::int64_t index = 0) const;
};

}  // namespace helix::reference
