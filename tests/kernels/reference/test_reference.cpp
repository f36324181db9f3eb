#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "kernels/ops/nvfp4.hpp"
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
using reference::RequestCache;
using reference::Vector;

namespace {

constexpr double kFp64 = 1e-12;  // sums of at most 10^4 terms of order 1, each rounded to 2^-53

Vector random_doubles(std::size_t count, unsigned seed) {
  const auto floats = random_floats(count, seed);
  return {floats.begin(), floats.end()};
}

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

TEST_CASE("attention by hand: weights 3/4 and 1/4") {
  // Two KV heads; query heads 0 and 1 read the first, 2 and 3 the second.
  RequestCache cache({.kv_heads = 2, .head_dim = 2, .v_dim = 1}, 1, 0, 0, 0);
  const double l = std::log(3.0);
  CHECK(cache.attend(Vector(8, 1.0), 1.0) == Vector(4, 0.0));  // no token yet
  cache.append(Vector{1, 0, 0, 2}, Vector{4, 100});
  cache.append(Vector{0, 1, 2, 0}, Vector{8, 200});
  const Vector q{l, 0, 0, l, l / 2, 0, 0, l / 2};
  CHECK(first_difference(cache.attend(q, 1.0), Vector{5, 7, 175, 125}, kFp64) == "");
  CHECK(first_difference(cache.attend(q, 0.0), Vector{6, 6, 150, 150}, kFp64) == "");
}

TEST_CASE("appended tokens are kept as the cache holds them") {
  for (const DType dtype : {DType::bf16, DType::fp8}) {
    RequestCache cache({.kv_heads = 1, .head_dim = 1, .v_dim = 2, .dtype = dtype}, 1, 0, 0, 0);
    cache.append(Vector{1}, Vector{1.05, 1000});  // bf16: steps of 1/128, fp8: steps of 1/8 and at most 448
    CHECK(cache.attend(Vector{1}, 1.0) ==
          (dtype == DType::fp8 ? Vector{1, 448} : Vector{1 + 6.0 / 128, 1000}));
  }
}

TEST_CASE("an NVFP4 cache holds blocks of 16 that share a scale") {
  // Blocks whose largest are 6 and 3 * 2^-9 have scales 1 and 2^-10, of which e4m3 makes 0 (a tie to even).
  RequestCache cache({.kv_heads = 1, .head_dim = 16, .v_dim = 32, .dtype = DType::nvfp4}, 1, 0, 0, 0);
  Vector v(32, 0.0), expected(32, 0.0);
  const Vector first{6, 5.1, -5, 0.25, 0.26, 0.75, -1.2, 1.75}, held{6, 6, -4, 0, 0.5, 1, -1, 2};
  std::ranges::copy(first, v.begin());
  std::ranges::copy(held, expected.begin());
  v[16] = 3 * 0x1p-9;
  cache.append(Vector(16, 1.0), v);
  CHECK(cache.attend(Vector(16, 0.0), 1.0) == expected);
}

TEST_CASE("the reference reads the NVFP4 history that synthetic.hpp defines") {
  const KvShape shape{.kv_heads = 2, .head_dim = 32, .v_dim = 48, .dtype = DType::nvfp4};
  const RequestCache cache(shape, 9, 2, 5, 1);
  Vector expected;
  for (const std::uint32_t head : {10u, 11u}) {
    const auto key = synthetic::tensor_key(9, static_cast<std::uint32_t>(Tensor::history_v), 2, head);
    const std::uint32_t row = synthetic::row_key(key, 0);
    for (std::uint32_t begin = 0; begin < 48; begin += 16) {
      float largest = 0.0f;
      for (std::uint32_t d = begin; d < begin + 16; ++d)
        largest = std::max(largest, std::fabs(synthetic::unit_value(row, d)));
      const FP8 scale = nvfp4_scale(largest);
      for (std::uint32_t d = begin; d < begin + 16; ++d)
        expected.push_back(
            as_double(e2m1_to_float(to_nvfp4(synthetic::unit_value(row, d), scale)) * to_float(scale)));
    }
  }
  CHECK(first_difference(cache.attend(Vector(64, 0.5), 1.0), expected, kFp64) == "");
}

TEST_CASE("e2m1 without branches is e2m1") {
  for (int i = -7000; i <= 7000; ++i) {
    const float x = static_cast<float>(i) / 1000;
    CHECK(rounded_to_e2m1(x) == e2m1_to_float(to_e2m1(x)));
  }
}

TEST_CASE("the reference reads the history that synthetic.hpp defines") {
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const auto stored = [&](std::uint64_t key, std::int64_t row, std::uint32_t col) {
    const float x = synthetic::unit_value(synthetic::row_key(key, row), col);
    return as_double(dtype == DType::fp8 ? to_float(to_fp8(x)) : to_float(to_bf16(x)));
  };
  const auto key = [](Tensor t, std::uint32_t index) {
    return synthetic::tensor_key(9, static_cast<std::uint32_t>(t), 2, index);
  };
  SECTION("one token: its V row, of request 5 and both heads") {
    const RequestCache cache({.kv_heads = 2, .head_dim = 3, .v_dim = 4, .dtype = dtype}, 9, 2, 5, 1);
    Vector expected;
    for (std::uint32_t head : {0u, 1u}) {
      for (std::uint32_t d = 0; d < 4; ++d)
        expected.push_back(stored(key(Tensor::history_v, 10 + head), 0, d));
    }
    CHECK(first_difference(cache.attend(Vector(6, 0.5), 1.0), expected, kFp64) == "");
  }
  SECTION("MLA: V is the head of the K row; blocks of tokens and appended ones add up") {
    const std::int64_t context = 150;
    RequestCache cache({.kind = AttentionKind::mla, .kv_heads = 1, .head_dim = 7, .v_dim = 5, .dtype = dtype},
                       9, 2, 3, context);
    std::vector<Vector> rows;
    for (std::int64_t t = 0; t < context; ++t) {
      rows.emplace_back();
      for (std::uint32_t d = 0; d < 7; ++d) rows.back().push_back(stored(key(Tensor::history_k, 3), t, d));
    }
    rows.push_back(Vector{1, -0.5, 0.25, -2, 0.75, 1.5, -1});  // bf16 and fp8 hold these
    cache.append(rows.back(), {});
    const Vector q = random_doubles(7, 2);
    double sum = 0;
    Vector expected(5, 0.0);
    for (const Vector& row : rows) {
      double score = 0;
      for (std::size_t d = 0; d < 7; ++d) score += q[d] * row[d];
      const double weight = std::exp(20.0 * score);  // sharp: the running maximum changes
      sum += weight;
      for (std::size_t d = 0; d < 5; ++d) expected[d] += weight * row[d];
    }
    for (double& x : expected) x /= sum;
    CHECK(first_difference(cache.attend(q, 20.0), expected, 1e-10, 1e-12) == "");
  }
}

TEST_CASE("threads attend parts of the tokens, and the parts are merged") {
  const std::int64_t context = 7000;
  const auto check = [&](const KvShape& shape, std::int64_t q_heads, const reference::Attended& attended) {
    const RequestCache cache(shape, 9, 2, 5, context);
    // Sharp: parts differ in their largest scores.
    const Vector q = random_doubles(static_cast<std::size_t>(q_heads * shape.head_dim), 3);
    const Vector alone = cache.attend(q, 20.0, attended);
    for (const int threads : {2, 3, 8})
      CHECK(first_difference(cache.attend(q, 20.0, attended, threads), alone, 1e-10, 1e-12) == "");
  };
  const KvShape grouped{.kv_heads = 2, .head_dim = 16, .v_dim = 16, .dtype = DType::bf16};
  check(grouped, 6, {});
  check(grouped, 6, {.window = 4500});
  check({.kind = AttentionKind::mla, .kv_heads = 1, .head_dim = 24, .v_dim = 16, .dtype = DType::fp8}, 3, {});
  std::vector<bool> chosen(context);  // of a part without any, nothing is merged
  for (std::size_t t = 6000; t < 6800; t += 3) chosen[t] = true;
  check(grouped, 4, {.chosen = &chosen});
}

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
