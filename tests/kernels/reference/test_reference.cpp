#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "kernels/ops/synthetic.hpp"
#include "kernels/ops/tensor_ids.hpp"
#include "kernels/reference/reference_model.hpp"
#include "kernels/state/rope.hpp"
#include "kernels/state/weight_plan.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;
using reference::first_layers;
using reference::ReferenceRequest;
using reference::ReferenceSetup;
using reference::ReferenceStep;
using reference::Vector;

namespace {

/// Row-major, as the definition in synthetic.hpp says.
Vector matrix(const WeightSlice& w) {
  Vector values;
  for (std::int64_t r = 0; r < w.rows; ++r) {
    for (std::int64_t c = 0; c < w.cols; ++c) {
      const float unit = synthetic::unit_value(synthetic::row_key(w.key, r), static_cast<std::uint32_t>(c));
      values.push_back(static_cast<double>(unit) * static_cast<double>(w.scale));
    }
  }
  return values;
}

/// A dense MLA layer and the head as the papers write them: K and V of every head and token are made from the
/// latents, scores are softmaxed over the whole context.
class NaiveMla {
 public:
  NaiveMla(const ModelSpec& model, std::uint64_t seed, std::int64_t context)
      : m_(model), a_(model.attention), seed_(seed), context_(context) {}

  Vector step(std::int32_t token) {
    Vector residual = embedding(token);
    const Vector delta = multiply(Tensor::o, attention(norm(residual, Tensor::input_norm)));
    for (std::size_t i = 0; i < residual.size(); ++i) residual[i] += delta[i];
    const Vector x = norm(residual, Tensor::post_norm);
    const Vector gate = multiply(Tensor::gate, x), up = multiply(Tensor::up, x);
    Vector act;
    for (std::size_t i = 0; i < gate.size(); ++i) act.push_back(gate[i] / (1 + std::exp(-gate[i])) * up[i]);
    const Vector down = multiply(Tensor::down, act);
    for (std::size_t i = 0; i < residual.size(); ++i) residual[i] += down[i];
    return multiply(Tensor::lm_head, norm(residual, Tensor::final_norm));
  }

 private:
  Vector embedding(std::int32_t token) const {
    const WeightSlice w = whole_tensor(m_, seed_, Tensor::embedding);
    const Vector all = matrix(w);
    return {all.begin() + token * w.cols, all.begin() + (token + 1) * w.cols};
  }
  Vector multiply(Tensor tensor, const Vector& x, std::int64_t index = 0) const {
    const WeightSlice w = whole_tensor(m_, seed_, tensor, 0, index);
    REQUIRE(static_cast<std::size_t>(w.cols) == x.size());
    const Vector values = matrix(w);
    Vector y(static_cast<std::size_t>(w.rows), 0.0);
    for (std::size_t r = 0; r < y.size(); ++r) {
      for (std::size_t c = 0; c < x.size(); ++c) y[r] += values[r * x.size() + c] * x[c];
    }
    return y;
  }
  Vector norm(const Vector& x, Tensor tensor) const {
    const auto gain = gain_values(m_, seed_, tensor, 0);
    REQUIRE(gain.size() == x.size());
    double squares = 0;
    for (const double v : x) squares += v * v;
    Vector y;
    for (std::size_t i = 0; i < x.size(); ++i) {
      y.push_back(x[i] / std::sqrt(squares / static_cast<double>(x.size()) + m_.norm_eps) *
                  as_double(gain[i]));
    }
    return y;
  }
  Vector turned(Vector x, std::int64_t position) const {  // interleaved pairs, amplitude 1
    const auto inv_freq = inv_frequencies(m_.rope, a_.qk_rope_head_dim);
    for (std::size_t i = 0; i < inv_freq.size(); ++i) {
      const double angle = static_cast<double>(position) * as_double(inv_freq[i]);
      const double u = x[2 * i], v = x[2 * i + 1];
      x[2 * i] = u * std::cos(angle) - v * std::sin(angle);
      x[2 * i + 1] = u * std::sin(angle) + v * std::cos(angle);
    }
    return x;
  }
  Vector cached_row(std::int64_t t) const {
    if (t >= context_) return appended_[static_cast<std::size_t>(t - context_)];
    const auto key = synthetic::tensor_key(seed_, static_cast<std::uint32_t>(Tensor::history_k), 0, 0);
    Vector row;
    for (std::int64_t i = 0; i < a_.kv_lora_rank + a_.qk_rope_head_dim; ++i) {
      row.push_back(
          as_double(synthetic::unit_value(synthetic::row_key(key, t), static_cast<std::uint32_t>(i))));
    }
    return row;
  }

  Vector attention(const Vector& x) {
    const auto latent = static_cast<std::size_t>(a_.kv_lora_rank);
    const auto nope = static_cast<std::size_t>(a_.qk_nope_head_dim),
               rope = static_cast<std::size_t>(a_.qk_rope_head_dim);
    const std::int64_t position = context_ + std::ssize(appended_);
    const Vector q = a_.q_lora_rank > 0
                         ? multiply(Tensor::q_b, norm(multiply(Tensor::q_a, x), Tensor::q_a_norm))
                         : multiply(Tensor::q, x);
    const Vector kv = multiply(Tensor::kv_a, x);
    Vector row = norm({kv.begin(), kv.begin() + a_.kv_lora_rank}, Tensor::kv_a_norm);
    const Vector k_rope = turned({kv.begin() + a_.kv_lora_rank, kv.end()}, position);
    row.insert(row.end(), k_rope.begin(), k_rope.end());
    for (double& value : row) value = as_double(to_bf16(static_cast<float>(value)));
    appended_.push_back(row);

    Vector out;
    for (std::int64_t h = 0; h < a_.q_heads; ++h) {
      const auto q_head = q.begin() + h * a_.qk_head_dim;
      const Vector q_nope(q_head, q_head + a_.qk_nope_head_dim);
      const Vector q_rope = turned({q_head + a_.qk_nope_head_dim, q_head + a_.qk_head_dim}, position);
      const Vector w_uk = matrix(whole_tensor(m_, seed_, Tensor::w_uk, 0, h));
      Vector weights;
      double sum = 0;
      for (std::int64_t t = 0; t <= position; ++t) {
        const Vector c = cached_row(t);
        double score = 0;
        for (std::size_t d = 0; d < nope; ++d) {
          double k_nope = 0;
          for (std::size_t l = 0; l < latent; ++l) k_nope += w_uk[l * nope + d] * c[l];
          score += q_nope[d] * k_nope;
        }
        for (std::size_t d = 0; d < rope; ++d) score += q_rope[d] * c[latent + d];
        weights.push_back(std::exp(attention_scale(m_) * score));
        sum += weights.back();
      }
      Vector head(static_cast<std::size_t>(a_.v_head_dim), 0.0);
      for (std::int64_t t = 0; t <= position; ++t) {
        Vector c = cached_row(t);
        c.resize(latent);
        const Vector v = multiply(Tensor::w_uv, c, h);
        for (std::size_t d = 0; d < v.size(); ++d)
          head[d] += weights[static_cast<std::size_t>(t)] / sum * v[d];
      }
      out.insert(out.end(), head.begin(), head.end());
    }
    return out;
  }

  const ModelSpec& m_;
  const AttentionSpec& a_;
  std::uint64_t seed_;
  std::int64_t context_;
  std::vector<Vector> appended_;
};

/// `name` made small enough for the naive form.
ModelSpec small_mla(const std::string& name) {
  ModelSpec model = load_model(name);
  model.hidden = 48;
  model.vocab = 100;
  model.ffn = 40;
  model.attention.q_heads = 3;
  model.attention.kv_lora_rank = 20;
  model.attention.qk_nope_head_dim = 12;
  model.attention.qk_rope_head_dim = 6;
  model.attention.qk_head_dim = 18;
  model.attention.v_head_dim = 10;
  if (model.attention.q_lora_rank > 0) model.attention.q_lora_rank = 14;
  return model;
}

}  // namespace

TEST_CASE("absorbed MLA equals the naive form, with and without a low-rank Q") {
  const ModelSpec model = small_mla(GENERATE(as<std::string>{}, "tiny-mla", "tiny-mla-lite"));
  REQUIRE_FALSE(model.layer_kind(0).moe());
  const std::int64_t context = GENERATE(0, 70);
  NaiveMla naive(model, 3, context);
  ReferenceRequest request({.model = model, .seed = 3, .layers = {0}, .context = context}, 0);
  for (const std::int32_t token : {17, 99, 0}) {
    CHECK(first_difference(request.step(token).logits, naive.step(token), 1e-9, 1e-10) == "");
  }
}

TEST_CASE("activations stay finite and of order one over 64 layers") {
  ModelSpec model =
      load_model(GENERATE(as<std::string>{}, "tiny-gqa", "tiny-qwen3-moe", "tiny-mla", "tiny-mla-lite"));
  model.layers = 64;
  model.tied_embeddings = false;
  ReferenceRequest request({.model = model, .seed = 1, .layers = first_layers(64), .context = 5}, 0);
  for (std::int32_t step = 0, token = 1; step < 2; ++step) {
    const ReferenceStep result = request.step(token);
    double squares = 0;
    for (const double x : result.logits) squares += x * x;
    const double rms = std::sqrt(squares / static_cast<double>(result.logits.size()));
    CHECK((rms > 0.5 && rms < 2.0));  // false for NaN
    CHECK(result.routing.size() == 64);
    token = result.token;
  }
}

TEST_CASE("steps are reproducible and depend on request, seed, history and cache type") {
  const ModelSpec model = load_model("tiny-gqa");
  const auto logits = [&](std::uint64_t seed, std::int64_t request, std::int64_t context, DType kv) {
    ReferenceRequest r({.model = model, .seed = seed, .layers = {0, 1}, .context = context, .kv_dtype = kv},
                       request);
    r.step(5);
    return r.step(6).logits;
  };
  const Vector base = logits(1, 0, 33, DType::bf16);
  CHECK(logits(1, 0, 33, DType::bf16) == base);
  CHECK(logits(1, 1, 33, DType::bf16) != base);
  CHECK(logits(2, 0, 33, DType::bf16) != base);
  CHECK(logits(1, 0, 34, DType::bf16) != base);
  CHECK(logits(1, 0, 33, DType::fp8) != base);
}

TEST_CASE("the reference reads weights as their dtype holds them") {
  const auto logits = [](DType weights) {
    return ReferenceRequest({.model = load_model("tiny-gqa"),
                             .seed = 1,
                             .layers = {0},
                             .context = 3,
                             .weight_dtype = weights},
                            0)
        .step(5)
        .logits;
  };
  CHECK(logits(DType::fp8) != logits(DType::bf16));
}

TEST_CASE("the greedy token and its lead") {
  ReferenceRequest request({.model = load_model("tiny-qwen3-moe"), .seed = 1, .layers = {0}, .context = 3},
                           0);
  const ReferenceStep step = request.step(0);
  Vector sorted = step.logits;
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  CHECK(step.logits[static_cast<std::size_t>(step.token)] == sorted[0]);
  CHECK(step.top2_gap == sorted[0] - sorted[1]);
}

TEST_CASE("a given choice of experts is followed if it is the same up to rounding") {
  const ModelSpec model = load_model(GENERATE(as<std::string>{}, "tiny-qwen3-moe", "tiny-mla"));
  const ReferenceSetup setup{.model = model, .seed = 1, .layers = {0, 1, 2}, .context = 3};
  const auto step = [&](const std::vector<std::vector<std::int32_t>>& routing) {
    std::vector<reference::LayerChoice> choices;
    for (const auto& experts : routing) choices.push_back({.experts = experts, .tokens = {}});
    return ReferenceRequest(setup, 0).step(7, choices);
  };
  const ReferenceStep own = step({});
  CHECK(own.choice_problem == "");

  auto reversed = own.routing;
  for (auto& experts : reversed) std::reverse(experts.begin(), experts.end());
  const ReferenceStep same = step(reversed);
  CHECK(same.choice_problem == "");
  CHECK(same.routing == reversed);
  CHECK(first_difference(same.logits, own.logits, 1e-9, 1e-10) == "");

  auto wrong = own.routing;
  std::set<std::int32_t> used(wrong[2].begin(), wrong[2].end());
  REQUIRE(used.size() == static_cast<std::size_t>(model.moe.top_k));
  wrong[2][0] = wrong[2][1];
  const ReferenceStep refused = step(wrong);
  CHECK(refused.choice_problem == "layer 2: an expert is chosen twice");
  CHECK(refused.logits == own.logits);
}
