#include "kernels/reference/ffn.hpp"

#include <string>
#include <vector>

#include "kernels/reference/routing.hpp"

namespace helix::reference {
namespace {

Vector dense(const Layer& layer, const Vector& x) {
  Vector gate = layer.multiply(Tensor::gate, x), up = layer.multiply(Tensor::up, x);
  if (layer.setup.model.ffn_bias) {
    layer.add_bias(Tensor::gate_bias, gate);
    layer.add_bias(Tensor::up_bias, up);
  }
  Vector y = layer.gated(gate, up, Tensor::down);
  if (layer.setup.model.ffn_bias) layer.add_bias(Tensor::down_bias, y);
  return y;
}

Vector shared_experts(const Layer& layer, const Vector& x) {
  Vector y = layer.gated(Tensor::shared_gate, Tensor::shared_up, Tensor::shared_down, x);
  if (!layer.setup.model.moe.gated_shared) return y;
  const double gate = sigmoid(layer.multiply_wide(Tensor::shared_expert_gate, x).front());
  for (double& value : y) value *= gate;
  layer.round(y);
  return y;
}

Vector expert(const Layer& layer, const Vector& x, std::int64_t index) {
  if (!layer.setup.model.moe.biased)
    return layer.gated(Tensor::expert_gate, Tensor::expert_up, Tensor::expert_down, x, index);
  Vector gate = layer.multiply(Tensor::expert_gate, x, index),
         up = layer.multiply(Tensor::expert_up, x, index);
  layer.add_bias(Tensor::expert_gate_bias, gate, index);
  layer.add_bias(Tensor::expert_up_bias, up, index);
  Vector y = layer.gated(gate, up, Tensor::expert_down, index);
  layer.add_bias(Tensor::expert_down_bias, y, index);
  return y;
}

Vector experts(const Layer& layer, const Vector& x, std::span<const std::int32_t> given,
               ReferenceStep& step) {
  const ReferenceSetup& setup = layer.setup;
  const MoeSpec& moe = setup.model.moe;
  step.router_logits.back() = layer.multiply_wide(Tensor::router, x);
  const Routing routing =
      route(moe, step.router_logits.back(),
            moe.has_router_bias() ? layer.wide(Tensor::router_bias) : std::vector<float>{}, given,
            setup.routing_tolerance);
  if (!routing.problem.empty() && step.choice_problem.empty()) {
    step.choice_problem = "layer " + std::to_string(layer.layer) + ": " + routing.problem;
  }
  Vector out(x.size(), 0.0);
  for (std::size_t i = 0; i < routing.experts.size(); ++i) {
    add_scaled(routing.weights[i], expert(layer, x, routing.experts[i]), out);
  }
  if (moe.shared_ffn > 0) add_scaled(1.0, shared_experts(layer, x), out);
  layer.round(out);
  step.routing.back() = routing.experts;
  return out;
}

}  // namespace

Vector ffn(const Layer& layer, const Vector& x, std::span<const std::int32_t> given, ReferenceStep& step) {
  return layer.setup.model.layer_kind(layer.layer).moe() ? experts(layer, x, given, step) : dense(layer, x);
}

}  // namespace helix::reference
