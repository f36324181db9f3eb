#include "kernels/reference/reference_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "kernels/ops/tensor_ids.hpp"
#include "kernels/reference/ffn.hpp"
#include "kernels/reference/layer.hpp"
#include "kernels/reference/selection.hpp"
#include "kernels/reference/stored_weights.hpp"
#include "kernels/state/rope.hpp"
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
  const AttentionSpec& a = setup_.model.attention;
  const auto rope_of = [&a](const RopeSpec& spec) -> Rope {
    return {.inv_freq = inv_frequencies(spec, a.rope_dim()),
            .amplitude = rope_amplitude(spec),
            .interleaved = spec.interleaved};
  };
  rope_ = rope_of(setup_.model.rope);
  window_rope_ = rope_of(setup_.model.window_rope.value_or(setup_.model.rope));
  index_rope_ = rope_;
  index_rope_.interleaved = a.indexer.rope_interleaved;
  const KvShape key{.kind = AttentionKind::mla,
                    .head_dim = a.indexer.head_dim,
                    .v_dim = a.indexer.head_dim,
                    .dtype = setup_.kv_dtype};
  for (const std::int64_t l : setup_.layers) {
    if (a.indexer.heads > 0)
      index_keys_.emplace_back(key, setup_.seed, l, request, setup_.context, setup_.exact_cache,
                               Tensor::history_index_k);
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
    w.norm_heads(gain, heads);
    for_each_head(heads, a.qk_head_dim, [&](std::span<double> head) {
      if (a.rope_dim() > 0) rotate(a.window > 0 ? window_rope_ : rope_, position, head);
      w.round(head);
    });
  }
  RequestCache& cache = caches_[run];
  cache.append(k, v);
  Vector sinks;
  if (a.sinks) {
    const std::vector<float> learned = w.wide(Tensor::sinks);
    sinks.assign(learned.begin(), learned.end());
  }
  Vector o = cache.attend(q, scale_, {.window = a.window, .sinks = sinks});
  w.round(o);
  return o;
}

// Absorbed form: with c the cached latent, q_nope (w_uk^T c) = (w_uk q_nope) c, and sum_t p_t (w_uv c_t) =
// w_uv (sum_t p_t c_t).
Vector ReferenceRequest::mla(std::size_t run, const Vector& x, const LayerChoice& choice,
                             ReferenceStep& step) {
  const AttentionSpec& a = setup_.model.attention;
  const Layer w{setup_, setup_.layers[run]};
  const std::int64_t position = setup_.context + steps_;
  const std::size_t latent = to_size(a.kv_lora_rank);

  Vector q, compressed;
  if (a.q_lora_rank > 0) {
    compressed = w.multiply(Tensor::q_a, x);
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
  std::vector<bool> attended;
  if (a.indexer.heads > 0) attended = indexed(run, x, compressed, choice, step);
  Vector o = cache.attend(absorbed, scale_,
                          {.window = setup_.model.attention_of(setup_.model.layer_kind(w.layer)).window,
                           .chosen = attended.empty() ? nullptr : &attended});
  w.round(o);
  Vector values;
  for (std::int64_t h = 0; h < a.q_heads; ++h) {
    const Vector v = w.multiply(Tensor::w_uv, std::span(o).subspan(to_size(h) * latent, latent), h);
    values.insert(values.end(), v.begin(), v.end());
  }
  return values;
}

// The published code turns queries and keys by a Hadamard matrix before it rounds them to fp8. It is orthogonal,
// so their products are the same without it.
std::vector<bool> ReferenceRequest::indexed(std::size_t run, const Vector& x, const Vector& q_latent,
                                            const LayerChoice& choice, ReferenceStep& step) {
  const AttentionSpec& a = setup_.model.attention;
  const Layer w{setup_, setup_.layers[run]};
  const std::int64_t position = setup_.context + steps_;
  const std::size_t rope = to_size(a.qk_rope_head_dim);

  Vector q = w.multiply(Tensor::index_q, q_latent);
  for_each_head(q, a.indexer.head_dim,
                [&](std::span<double> head) { rotate(index_rope_, position, head.first(rope)); });
  w.round(q);
  Vector k = w.multiply(Tensor::index_k, x);
  layer_norm(k, w.gain(Tensor::index_k_norm), w.gain(Tensor::index_k_bias), IndexerSpec::key_norm_eps);
  w.round(k);
  rotate(index_rope_, position, std::span(k).first(rope));
  w.round(k);
  index_keys_[run].append(k, {});

  const double scale = 1.0 / std::sqrt(static_cast<double>(a.indexer.heads * a.indexer.head_dim));
  const Vector scores = index_keys_[run].index_scores(q, w.multiply_wide(Tensor::index_weights, x), scale);
  Selection selection = select_tokens(scores, a.indexer.top_k, choice.tokens, setup_.selection_tolerance);
  if (!selection.problem.empty() && step.choice_problem.empty())
    step.choice_problem = "layer " + std::to_string(w.layer) + ": " + selection.problem;
  return std::move(selection.attended);
}

Vector ReferenceRequest::attention(std::size_t run, const Vector& x, const LayerChoice& choice,
                                   ReferenceStep& step) {
  const AttentionSpec& a = setup_.model.attention;
  const Layer w{setup_, setup_.layers[run]};
  Vector y =
      w.multiply_out(Tensor::o, a.kind == AttentionKind::mla ? mla(run, x, choice, step) : gqa(run, x));
  if (a.output_bias) w.add_bias(Tensor::o_bias, y);
  return y;
}

void ReferenceRequest::take_back(std::int64_t steps) {
  for (RequestCache& cache : caches_) cache.drop(steps);
  for (RequestCache& cache : index_keys_) cache.drop(steps);
  steps_ -= steps;
}

ReferenceStep ReferenceRequest::step(std::int32_t token, std::span<const LayerChoice> choices) {
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
    const LayerChoice choice = i < choices.size() ? choices[i] : LayerChoice{};
    result.block_outputs.push_back(attention(i, x, choice, result));
    if (model.post_norms) w.norm(Tensor::attention_out_norm, result.block_outputs.back());
    const bool parallel = model.blocks == Blocks::parallel;
    if (!parallel) {
      add(result.block_outputs.back(), residual);
      x = residual;
      w.norm(Tensor::post_norm, x);
    }
    result.routing.emplace_back();
    result.block_outputs.push_back(ffn(w, x, choice.experts, result));
    if (model.post_norms) w.norm(Tensor::ffn_out_norm, result.block_outputs.back());
    if (parallel) {
      add(result.block_outputs.end()[-2], result.block_outputs.back());
      w.round(result.block_outputs.back());
    }
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
