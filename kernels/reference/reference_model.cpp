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

double attention_work(const ReferenceSetup& setup) {
  const KvShape cache = cache_shape(setup);
  double work = 0;
  for (const std::int64_t layer : setup.layers) {
    const AttentionSpec& a = setup.model.attention_of(setup.model.layer_kind(layer));
    const std::int64_t tokens = a.window > 0 ? std::min(a.window, setup.context) : setup.context;
    work += static_cast<double>(tokens) * static_cast<double>(a.q_heads * (cache.head_dim + cache.v_dim) +
                                                              a.indexer.heads * a.indexer.head_dim);
  }
  return work;
}

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
  std::vector<std::int64_t> cached = setup_.layers;
  if (setup_.model.draft_layers > 0) cached.push_back(setup_.model.layers);
  for (const std::int64_t l : cached) {
    if (a.indexer.heads > 0)
      index_keys_.emplace_back(key, setup_.seed, l, request, setup_.context, setup_.exact_cache,
                               Tensor::history_index_k);
    caches_.emplace_back(cache_shape(setup_), setup_.seed, l, request, setup_.context, setup_.exact_cache);
  }
  streams_.emplace_back(to_size(setup_.model.hidden), 0.0);
}

std::int64_t ReferenceRequest::layer_of(std::size_t run) const {
  return run < setup_.layers.size() ? setup_.layers[run] : setup_.model.layers;
}

void ReferenceRequest::grow(Vector& queries) const {
  const RopeSpec& rope = setup_.model.rope;
  if (rope.query_growth == 0.0) return;
  const auto periods = static_cast<double>(1 + position_ / rope.original_max_position);
  for (double& x : queries) x *= 1.0 + rope.query_growth * std::log(periods);
}

Vector ReferenceRequest::gqa(std::size_t run, const Vector& x) {
  const AttentionSpec& a = setup_.model.attention_of(setup_.model.layer_kind(layer_of(run)));
  const Layer w{setup_, layer_of(run)};
  Vector q = w.multiply(Tensor::q, x), k = w.multiply(Tensor::k, x), v = w.multiply(Tensor::v, x);
  if (a.qkv_bias) {
    w.add_bias(Tensor::q_bias, q);
    w.add_bias(Tensor::k_bias, k);
    w.add_bias(Tensor::v_bias, v);
  }
  for (auto& [heads, gain] : {std::pair<Vector&, Tensor>{q, Tensor::q_norm}, {k, Tensor::k_norm}}) {
    w.norm_heads(gain, heads);
    if (gain == Tensor::q_norm) grow(heads);
    for_each_head(heads, a.qk_head_dim, [&](std::span<double> head) {
      if (a.rope_dim() > 0) rotate(a.window > 0 ? window_rope_ : rope_, position_, head);
      w.round(head);
    });
  }
  RequestCache& cache = caches_[run];
  if (appends_) cache.append(k, v);
  Vector sinks;
  if (a.sinks) {
    const std::vector<float> learned = w.wide(Tensor::sinks);
    sinks.assign(learned.begin(), learned.end());
  }
  Vector o = cache.attend(q, scale_, {.window = a.window, .sinks = sinks}, setup_.threads);
  w.round(o);
  return o;
}

// Absorbed form: with c the cached latent, q_nope (w_uk^T c) = (w_uk q_nope) c, and sum_t p_t (w_uv c_t) =
// w_uv (sum_t p_t c_t).
Vector ReferenceRequest::mla(std::size_t run, const Vector& x, const LayerChoice& choice,
                             ReferenceStep& step) {
  const AttentionSpec& a = setup_.model.attention;
  const Layer w{setup_, layer_of(run)};
  const std::size_t latent = to_size(a.kv_lora_rank);

  Vector q, compressed;
  if (a.q_lora_rank > 0) {
    compressed = w.multiply(Tensor::q_a, x);
    w.norm(Tensor::q_a_norm, compressed);
    q = w.multiply(Tensor::q_b, compressed);
  } else {
    q = w.multiply(Tensor::q, x);
  }
  grow(q);
  Vector row = w.multiply(Tensor::kv_a, x);
  w.norm(Tensor::kv_a_norm, std::span(row).first(latent));
  rotate(rope_, position_, std::span(row).subspan(latent));
  w.round(row);

  Vector absorbed;
  std::int64_t head = 0;
  for_each_head(q, a.qk_head_dim, [&](std::span<double> q_head) {
    const auto nope = q_head.first(to_size(a.qk_nope_head_dim));
    const auto rope = q_head.subspan(nope.size());
    rotate(rope_, position_, rope);
    w.round(rope);
    const Vector in_latent = w.multiply(Tensor::w_uk, nope, head++);
    absorbed.insert(absorbed.end(), in_latent.begin(), in_latent.end());
    absorbed.insert(absorbed.end(), rope.begin(), rope.end());
  });

  RequestCache& cache = caches_[run];
  if (appends_) cache.append(row, {});
  std::vector<bool> attended;
  if (a.indexer.heads > 0) attended = indexed(run, x, compressed, choice, step);
  Vector o = cache.attend(absorbed, scale_,
                          {.window = setup_.model.attention_of(setup_.model.layer_kind(w.layer)).window,
                           .chosen = attended.empty() ? nullptr : &attended},
                          setup_.threads);
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
  const Layer w{setup_, layer_of(run)};
  const std::size_t rope = to_size(a.qk_rope_head_dim);

  Vector q = w.multiply(Tensor::index_q, q_latent);
  for_each_head(q, a.indexer.head_dim,
                [&](std::span<double> head) { rotate(index_rope_, position_, head.first(rope)); });
  w.round(q);
  Vector k = w.multiply(Tensor::index_k, x);
  layer_norm(k, w.gain(Tensor::index_k_norm), w.gain(Tensor::index_k_bias), IndexerSpec::key_norm_eps);
  w.round(k);
  rotate(index_rope_, position_, std::span(k).first(rope));
  w.round(k);
  index_keys_[run].append(k, {});

  const double scale = 1.0 / std::sqrt(static_cast<double>(a.indexer.heads * a.indexer.head_dim));
  Vector& scores = step.index_scores.back();
  scores = index_keys_[run].index_scores(q, w.multiply_wide(Tensor::index_weights, x), scale);
  Selection selection = select_tokens(scores, a.indexer.top_k, choice.tokens, setup_.selection_tolerance);
  if (!selection.problem.empty() && step.choice_problem.empty())
    step.choice_problem = "layer " + std::to_string(w.layer) + ": " + selection.problem;
  return std::move(selection.attended);
}

Vector ReferenceRequest::attention(std::size_t run, const Vector& x, const LayerChoice& choice,
                                   ReferenceStep& step) {
  const AttentionSpec& a = setup_.model.attention;
  const Layer w{setup_, layer_of(run)};
  Vector y =
      w.multiply_out(Tensor::o, a.kind == AttentionKind::mla ? mla(run, x, choice, step) : gqa(run, x));
  if (a.output_bias) w.add_bias(Tensor::o_bias, y);
  return y;
}

void ReferenceRequest::take_back(std::int64_t steps) {
  for (std::size_t run = 0; run < setup_.layers.size(); ++run) caches_[run].drop(steps);
  for (RequestCache& cache : index_keys_) cache.drop(steps);
  if (setup_.model.draft_layers > 0) streams_.resize(streams_.size() - to_size(steps));
  steps_ -= steps;
}

Vector ReferenceRequest::embedding(std::int32_t token) const {
  const WeightSlice table = whole_tensor(setup_.model, setup_.seed, Tensor::embedding);
  Vector row =
      setup_.weights != nullptr ? stored_row(*setup_.weights, table, token) : weight_row(table, token);
  for (double& x : row) x *= setup_.model.embedding_multiplier;
  Layer{setup_, 0}.round(row);
  return row;
}

void ReferenceRequest::run_layer(std::size_t run, Vector& residual, const LayerChoice& choice,
                                 ReferenceStep& step) {
  const ModelSpec& model = setup_.model;
  const Layer w{setup_, layer_of(run)};
  step.routing.emplace_back();
  step.router_logits.emplace_back();
  step.index_scores.emplace_back();
  Vector x = residual;
  w.norm(Tensor::input_norm, x);
  step.block_outputs.push_back(attention(run, x, choice, step));
  if (model.post_norms) w.norm(Tensor::attention_out_norm, step.block_outputs.back());
  const bool parallel = model.blocks == Blocks::parallel;
  if (!parallel) {
    add(step.block_outputs.back(), residual);
    x = residual;
    w.norm(Tensor::post_norm, x);
  }
  step.block_outputs.push_back(ffn(w, x, choice.experts, step));
  if (model.post_norms) w.norm(Tensor::ffn_out_norm, step.block_outputs.back());
  if (parallel) {
    add(step.block_outputs.end()[-2], step.block_outputs.back());
    w.round(step.block_outputs.back());
  }
  add(step.block_outputs.back(), residual);
}

void ReferenceRequest::finish(Tensor norm, std::int64_t layer, Vector& residual, ReferenceStep& step) {
  Layer{setup_, layer}.norm(norm, residual);
  step.logits = Layer{setup_, 0}.multiply_wide(Tensor::lm_head, residual);
  for (double& logit : step.logits) logit /= setup_.model.logits_divisor;
  choose_token(step);
}

ReferenceStep ReferenceRequest::step(std::int32_t token, std::span<const LayerChoice> choices) {
  ReferenceStep result;
  position_ = setup_.context + steps_;
  if (steps_ == 0) streams_.clear();
  Vector residual = embedding(token);
  for (std::size_t i = 0; i < setup_.layers.size(); ++i)
    run_layer(i, residual, i < choices.size() ? choices[i] : LayerChoice{}, result);
  finish(Tensor::final_norm, 0, residual, result);
  if (setup_.model.draft_layers > 0) streams_.push_back(std::move(residual));
  ++steps_;
  return result;
}

std::vector<ReferenceStep> ReferenceRequest::draft(std::span<const std::int32_t> chosen,
                                                   std::span<const std::int32_t> drafts,
                                                   std::span<const LayerChoice> choices) {
  const std::size_t run = setup_.layers.size();
  const std::int64_t layer = setup_.model.layers;
  const Layer w{setup_, layer};
  std::vector<ReferenceStep> made;
  Vector stream;
  std::size_t seen = 0;
  // The first place is that of the history's last token, which the cache has.
  const auto run_on = [&](std::int64_t position, std::int32_t token) {
    ReferenceStep step;
    position_ = position;
    appends_ = position >= setup_.context;
    Vector pair = embedding(token);
    w.norm(Tensor::draft_token_norm, pair);
    w.norm(Tensor::draft_stream_norm, stream);
    pair.insert(pair.end(), stream.begin(), stream.end());
    stream = w.multiply(Tensor::draft_input, pair);
    run_layer(run, stream, seen < choices.size() ? choices[seen] : LayerChoice{}, step);
    ++seen;
    finish(Tensor::draft_out_norm, layer, stream, step);
    return step;
  };
  const std::int64_t before = setup_.context + steps_ - std::ssize(chosen);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    stream = streams_.at(i);
    ReferenceStep step = run_on(before + static_cast<std::int64_t>(i), chosen[i]);
    if (i + 1 == chosen.size()) made.push_back(std::move(step));
  }
  for (std::size_t i = 0; i + 1 < drafts.size(); ++i)
    made.push_back(run_on(setup_.context + steps_ + static_cast<std::int64_t>(i), drafts[i]));
  caches_[run].drop(std::ssize(drafts) - 1);
  appends_ = true;
  streams_.clear();
  return made;
}

}  // namespace helix::reference
