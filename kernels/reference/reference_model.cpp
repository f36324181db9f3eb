#include "kernels/reference/reference_model.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "kernels/ops/tensor_ids.hpp"
#include "kernels/reference/routing.hpp"
#include "kernels/reference/stored_weights.hpp"
#include "kernels/state/rope.hpp"
#include "kernels/state/stored_weights.hpp"
#include "kernels/state/weight_plan.hpp"

namespace helix::reference {
namespace {

std::size_t to_size(std::int64_t n) {
  return static_cast<std::size_t>(n);
}

KvShape cache_shape(const ReferenceSetup& setup) {
  const AttentionSpec& a = setup.model.attention;
  if (a.kind == AttentionKind::mla) {
    return {.kind = a.kind,
            .kv_heads = 1,
            .head_dim = a.kv_lora_rank + a.qk_rope_head_dim,
            .v_dim = a.kv_lora_rank,
            .dtype = setup.kv_dtype};
  }
  return {.kind = a.kind,
          .kv_heads = a.kv_heads,
          .head_dim = a.qk_head_dim,
          .v_dim = a.v_head_dim,
          .dtype = setup.kv_dtype};
}

void add(const Vector& x, Vector& sum) {
  add_scaled(1.0, x, sum);
}

/// Applies `change` to each of the `width`-wide parts of x.
template <typename Change>
void for_each_head(Vector& x, std::int64_t width, Change change) {
  for (std::size_t at = 0; at < x.size(); at += to_size(width))
    change(std::span(x).subspan(at, to_size(width)));
}

/// The weights of one layer, by name, and what the engine would leave in bf16 of what they give.
struct Layer {
  const ReferenceSetup& setup;
  std::int64_t layer;

  void round(std::span<double> x) const {
    if (!setup.round_as_engine) return;
    for (double& value : x) value = static_cast<double>(to_float(to_bf16(static_cast<float>(value))));
  }
  /// Router and head leave fp32.
  Vector multiply_wide(Tensor tensor, std::span<const double> x, std::int64_t index = 0) const {
    const bool wide = tensor == Tensor::router || tensor == Tensor::shared_expert_gate;
    const DType dtype = wide ? DType::bf16 : setup.weight_dtype;
    const WeightSlice whole = whole_tensor(setup.model, setup.seed, tensor, layer, index);
    return setup.weights != nullptr ? multiply_stored(*setup.weights, whole, dtype, x)
                                    : reference::multiply(whole, dtype, x);
  }
  Vector multiply(Tensor tensor, std::span<const double> x, std::int64_t index = 0) const {
    Vector y = multiply_wide(tensor, x, index);
    round(y);
    return y;
  }
  /// What joins the residual stream, whose sum no rank leaves unscaled.
  Vector multiply_out(Tensor tensor, std::span<const double> x, std::int64_t index = 0) const {
    Vector y = multiply_wide(tensor, x, index);
    for (double& value : y) value *= setup.model.residual_multiplier;
    round(y);
    return y;
  }
  void add_bias(Tensor bias, Vector& y) const {
    const std::vector<BF16> values = setup.weights != nullptr
                                         ? rounded_to_bf16(setup.weights->vector({bias, layer, 0}))
                                         : bias_values(setup.model, setup.seed, bias, layer);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] += static_cast<double>(to_float(values[i]));
    round(y);
  }
  void norm(Tensor gain, std::span<double> x) const {
    const bool of_latent = gain == Tensor::q_a_norm || gain == Tensor::kv_a_norm;
    rms_norm(x,
             setup.weights != nullptr ? rounded_to_bf16(setup.weights->vector({gain, layer, 0}))
                                      : gain_values(setup.model, setup.seed, gain, layer),
             of_latent ? AttentionSpec::latent_norm_eps : setup.model.rms_eps);
    round(x);
  }
  std::vector<float> router_bias() const {
    if (setup.model.moe.router != RouterKind::sigmoid_grouped) return {};
    return setup.weights != nullptr ? setup.weights->vector({Tensor::router_bias, layer, 0})
                                    : router_bias_values(setup.model, setup.seed, layer);
  }
  Vector gated(Tensor gate, Tensor up, Tensor down, const Vector& x, std::int64_t index = 0) const {
    return gated(multiply(gate, x, index), multiply(up, x, index), down, index);
  }
  Vector gated(const Vector& gate, const Vector& up, Tensor down, std::int64_t index = 0) const {
    Vector hidden = swiglu(gate, up);
    round(hidden);
    return multiply_out(down, hidden, index);
  }
};

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

Vector experts(const Layer& layer, const Vector& x, std::span<const std::int32_t> given,
               ReferenceStep& step) {
  const ReferenceSetup& setup = layer.setup;
  const MoeSpec& moe = setup.model.moe;
  const Routing routing =
      route(moe, layer.multiply_wide(Tensor::router, x), layer.router_bias(), given, setup.routing_tolerance);
  if (!routing.problem.empty() && step.routing_problem.empty()) {
    step.routing_problem = "layer " + std::to_string(layer.layer) + ": " + routing.problem;
  }
  Vector out(x.size(), 0.0);
  for (std::size_t i = 0; i < routing.experts.size(); ++i) {
    const Vector expert =
        layer.gated(Tensor::expert_gate, Tensor::expert_up, Tensor::expert_down, x, routing.experts[i]);
    add_scaled(routing.weights[i], expert, out);
  }
  if (moe.shared_ffn > 0) add(shared_experts(layer, x), out);
  layer.round(out);
  step.routing.back() = routing.experts;
  return out;
}

void choose_token(ReferenceStep& step) {
  const auto best = std::max_element(step.logits.begin(), step.logits.end());
  step.token = static_cast<std::int32_t>(best - step.logits.begin());
  double second = -std::numeric_limits<double>::infinity();
  for (auto it = step.logits.begin(); it != step.logits.end(); ++it) {
    if (it != best) second = std::max(second, *it);
  }
  step.top2_gap = *best - second;
}

}  // namespace

ReferenceRequest::ReferenceRequest(const ReferenceSetup& setup, std::int64_t request)
    : setup_(setup), scale_(attention_scale(setup.model)) {
  rope_ = {.inv_freq = inv_frequencies(setup_.model.rope, setup_.model.attention.rope_dim()),
           .amplitude = rope_amplitude(setup_.model.rope),
           .interleaved = setup_.model.rope.interleaved};
  for (const std::int64_t l : setup_.layers) {
    caches_.emplace_back(cache_shape(setup_), setup_.seed, l, request, setup_.context, setup_.exact_cache);
  }
}

Vector ReferenceRequest::gqa(std::size_t run, const Vector& x) {
  const AttentionSpec& a = setup_.model.attention_of(setup_.model.layer_kind(setup_.layers[run]));
  const Layer w{setup_, setup_.layers[run]};
  Vector q = w.multiply(Tensor::q, x), k = w.multiply(Tensor::k, x), v = w.multiply(Tensor::v, x);
  if (a.qkv_bias) {
    w.add_bias(Tensor::q_bias, q);
    w.add_bias(Tensor::k_bias, k);
    w.add_bias(Tensor::v_bias, v);
  }
  const std::int64_t position = setup_.context + steps_;
  for (auto& [heads, gain] : {std::pair<Vector&, Tensor>{q, Tensor::q_norm}, {k, Tensor::k_norm}}) {
    if (a.whole_qk_norm) w.norm(gain, heads);
    for_each_head(heads, a.qk_head_dim, [&](std::span<double> head) {
      if (a.qk_norm && !a.whole_qk_norm) w.norm(gain, head);
      if (a.rope_dim() > 0) rotate(rope_, position, head);
      w.round(head);
    });
  }
  RequestCache& cache = caches_[run];
  cache.append(k, v);
  Vector o = cache.attend(q, scale_);
  w.round(o);
  return o;
}

// Absorbed form: with c the cached latent, q_nope (w_uk^T c) = (w_uk q_nope) c, and sum_t p_t (w_uv c_t) =
// w_uv (sum_t p_t c_t).
Vector ReferenceRequest::mla(std::size_t run, const Vector& x) {
  const AttentionSpec& a = setup_.model.attention;
  const Layer w{setup_, setup_.layers[run]};
  const std::int64_t position = setup_.context + steps_;
  const std::size_t latent = to_size(a.kv_lora_rank);

  Vector q;
  if (a.q_lora_rank > 0) {
    Vector compressed = w.multiply(Tensor::q_a, x);
    w.norm(Tensor::q_a_norm, compressed);
    q = w.multiply(Tensor::q_b, compressed);
  } else {
    q = w.multiply(Tensor::q, x);
  }
  Vector row = w.multiply(Tensor::kv_a, x);
  w.norm(Tensor::kv_a_norm, std::span(row).first(latent));
  rotate(rope_, position, std::span(row).subspan(latent));
  w.round(row);

  Vector absorbed;
  std::int64_t head = 0;
  for_each_head(q, a.qk_head_dim, [&](std::span<double> q_head) {
    const auto nope = q_head.first(to_size(a.qk_nope_head_dim));
    const auto rope = q_head.subspan(nope.size());
    rotate(rope_, position, rope);
    w.round(rope);
    const Vector in_latent = w.multiply(Tensor::w_uk, nope, head++);
    absorbed.insert(absorbed.end(), in_latent.begin(), in_latent.end());
    absorbed.insert(absorbed.end(), rope.begin(), rope.end());
  });

  RequestCache& cache = caches_[run];
  cache.append(row, {});
  Vector o = cache.attend(absorbed, scale_);
  w.round(o);
  Vector values;
  for (std::int64_t h = 0; h < a.q_heads; ++h) {
    const Vector v = w.multiply(Tensor::w_uv, std::span(o).subspan(to_size(h) * latent, latent), h);
    values.insert(values.end(), v.begin(), v.end());
  }
  return values;
}

Vector ReferenceRequest::attention(std::size_t run, const Vector& x) {
  const AttentionSpec& a = setup_.model.attention;
  const Layer w{setup_, setup_.layers[run]};
  Vector y = w.multiply_out(Tensor::o, a.kind == AttentionKind::mla ? mla(run, x) : gqa(run, x));
  if (a.output_bias) w.add_bias(Tensor::o_bias, y);
  return y;
}

ReferenceStep ReferenceRequest::step(std::int32_t token, std::span<const std::vector<std::int32_t>> routing) {
  const ModelSpec& model = setup_.model;
  ReferenceStep result;
  const WeightSlice table = whole_tensor(model, setup_.seed, Tensor::embedding);
  Vector residual =
      setup_.weights != nullptr ? stored_row(*setup_.weights, table, token) : weight_row(table, token);
  for (double& x : residual) x *= model.embedding_multiplier;
  Layer{setup_, 0}.round(residual);
  for (std::size_t i = 0; i < setup_.layers.size(); ++i) {
    const std::int64_t l = setup_.layers[i];
    const Layer w{setup_, l};
    Vector x = residual;
    w.norm(Tensor::input_norm, x);
    result.block_outputs.push_back(attention(i, x));
    if (model.post_norms) w.norm(Tensor::attention_out_norm, result.block_outputs.back());
    add(result.block_outputs.back(), residual);

    x = residual;
    w.norm(Tensor::post_norm, x);
    result.routing.emplace_back();
    const bool given = i < routing.size();
    result.block_outputs.push_back(
        model.layer_kind(l).moe()
            ? experts(w, x, given ? std::span(routing[i]) : std::span<const std::int32_t>{}, result)
            : dense(w, x));
    if (model.post_norms) w.norm(Tensor::ffn_out_norm, result.block_outputs.back());
    add(result.block_outputs.back(), residual);
  }
  const Layer head{setup_, 0};
  head.norm(Tensor::final_norm, residual);
  result.logits = head.multiply_wide(Tensor::lm_head, residual);
  for (double& logit : result.logits) logit /= model.logits_divisor;
  choose_token(result);
  ++steps_;
  return result;
}

}  // namespace helix::reference
