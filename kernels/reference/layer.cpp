#include "kernels/reference/layer.hpp"

#include "kernels/reference/stored_weights.hpp"
#include "kernels/state/stored_weights.hpp"
#include "kernels/state/weight_plan.hpp"

namespace helix::reference {

void Layer::round(std::span<double> x) const {
  if (!setup.round_as_engine) return;
  for (double& value : x) value = static_cast<double>(to_float(to_bf16(static_cast<float>(value))));
}

Vector Layer::multiply(Tensor tensor, std::span<const double> x, std::int64_t index) const {
  Vector y = multiply_wide(tensor, x, index);
  round(y);
  return y;
}

Vector Layer::multiply_wide(Tensor tensor, std::span<const double> x, std::int64_t index) const {
  const bool wide =
      tensor == Tensor::router || tensor == Tensor::shared_expert_gate || tensor == Tensor::index_weights;
  const DType dtype = wide ? DType::bf16 : setup.weight_dtype;
  const WeightSlice whole = whole_tensor(setup.model, setup.seed, tensor, layer, index);
  return setup.weights != nullptr ? multiply_stored(*setup.weights, whole, dtype, x)
                                  : setup.synthetic->multiply(whole, dtype, x);
}

Vector Layer::multiply_out(Tensor tensor, std::span<const double> x, std::int64_t index) const {
  Vector y = multiply_wide(tensor, x, index);
  for (double& value : y) value *= setup.model.residual_multiplier;
  round(y);
  return y;
}

void Layer::add_bias(Tensor bias, Vector& y, std::int64_t index) const {
  const std::vector<BF16> values = setup.weights != nullptr
                                       ? rounded_to_bf16(setup.weights->vector({bias, layer, 0}))
                                       : bias_values(setup.model, setup.seed, bias, layer);
  const std::size_t first = static_cast<std::size_t>(index) * y.size();
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += static_cast<double>(to_float(values[first + i]));
  round(y);
}

std::vector<BF16> Layer::gain(Tensor tensor) const {
  return setup.weights != nullptr ? stored_gain(*setup.weights, setup.model, {tensor, layer, 0})
                                  : gain_values(setup.model, setup.seed, tensor, layer);
}

void Layer::norm(Tensor tensor, std::span<double> x) const {
  const bool of_latent = tensor == Tensor::q_a_norm || tensor == Tensor::kv_a_norm;
  const double eps = of_latent ? AttentionSpec::latent_norm_eps : setup.model.norm_eps;
  if (setup.model.norm == NormKind::layer && !of_latent) {
    layer_norm(x, gain(tensor), {}, eps);
  } else {
    rms_norm(x, gain(tensor), eps);
  }
  round(x);
}

void Layer::norm_heads(Tensor tensor, Vector& x) const {
  const QkNorm kind = setup.model.attention.qk_norm;
  if (kind == QkNorm::none) return;
  const std::vector<BF16> gains = gain(tensor);
  const std::size_t width =
      kind == QkNorm::whole ? x.size() : static_cast<std::size_t>(setup.model.attention.qk_head_dim);
  for (std::size_t at = 0; at < x.size(); at += width) {
    const std::span head = std::span(x).subspan(at, width);
    if (kind == QkNorm::layer_heads) {
      const auto own = gains.begin() + static_cast<std::ptrdiff_t>(at);
      layer_norm(head, {own, own + static_cast<std::ptrdiff_t>(width)}, {}, setup.model.norm_eps);
    } else {
      rms_norm(head, gains, setup.model.norm_eps);
    }
  }
  round(x);
}

std::vector<float> Layer::wide(Tensor tensor) const {
  return setup.weights != nullptr ? setup.weights->vector({tensor, layer, 0})
                                  : wide_values(setup.model, setup.seed, tensor, layer);
}

Vector Layer::gated(Tensor gate, Tensor up, Tensor down, const Vector& x, std::int64_t index) const {
  return gated(multiply(gate, x, index), multiply(up, x, index), down, index);
}

Vector Layer::gated(const Vector& gate, const Vector& up, Tensor down, std::int64_t index) const {
  Vector hidden = reference::gated(setup.model.gated_unit, gate, up);
  round(hidden);
  return multiply_out(down, hidden, index);
}

}  // namespace helix::reference
