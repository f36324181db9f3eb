#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <numeric>
#include <set>

#include "kernels/cpu/small_ops.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

struct Routing {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Routing route(const RouterShape& shape, const std::vector<float>& logits, const float* bias = nullptr) {
  const auto batch = static_cast<std::int64_t>(logits.size()) / shape.experts;
  Routing r{std::vector<std::int32_t>(static_cast<std::size_t>(batch * shape.top_k), -7),
            std::vector<float>(static_cast<std::size_t>(batch * shape.top_k), NAN)};
  cpu::route(shape, batch, logits.data(), bias, r.ids.data(), r.weights.data(), 2);
  return r;
}

constexpr double kFp32 = 1e-6;  // a few roundings of exp, sum and quotient

}  // namespace

TEST_CASE("softmax_topk: probabilities over all experts, normalised only when asked") {
  const std::vector<float> logits{std::log(1.0f), std::log(4.0f), std::log(2.0f),
                                  std::log(3.0f)};  // p = .1 .4 .2 .3
  RouterShape shape{.kind = RouterKind::softmax_topk, .experts = 4, .top_k = 2};
  const Routing plain = route(shape, logits);
  CHECK(plain.ids == std::vector<std::int32_t>{1, 3});
  CHECK(first_difference(plain.weights, std::vector<double>{0.4, 0.3}, kFp32) == "");
  shape.normalize = true;
  shape.scaling = 2.5f;
  CHECK(first_difference(route(shape, logits).weights, std::vector<double>{2.5 * 4 / 7, 2.5 * 3 / 7},
                         kFp32) == "");
}

TEST_CASE("softmax_topk: ties go to the lower expert and large logits do not overflow") {
  const RouterShape shape{.kind = RouterKind::softmax_topk, .experts = 5, .top_k = 3};
  const Routing r = route(shape, {200, 100, 200, 200, 200});
  CHECK(r.ids == std::vector<std::int32_t>{0, 2, 3});
  CHECK(first_difference(r.weights, std::vector<double>{0.25, 0.25, 0.25}, kFp32) == "");
}

TEST_CASE("softmax_topk agrees with a full sort over a batch") {
  const RouterShape shape{.kind = RouterKind::softmax_topk, .experts = 67, .top_k = 6, .normalize = true};
  const std::size_t batch = 33, experts = 67;
  const auto logits = random_floats(batch * experts, 1);
  const Routing r = route(shape, logits);
  for (std::size_t b = 0; b < batch; ++b) {
    const float* row = logits.data() + b * experts;
    std::vector<std::int32_t> order(experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](auto i, auto j) { return row[i] > row[j]; });
    order.resize(6);
    CHECK(std::equal(order.begin(), order.end(), r.ids.begin() + static_cast<std::ptrdiff_t>(b * 6)));
    double sum = 0.0;
    for (std::size_t i = 0; i < 6; ++i) sum += static_cast<double>(r.weights[b * 6 + i]);
    CHECK(sum == Approx(1.0).epsilon(kFp32));
  }
}

// Values from an independent NumPy transcription of DeepSeek-V3's gate (see the formulas in router.cpp).
TEST_CASE("sigmoid_grouped: groups by their two best choices, bias for the choice only") {
  const RouterShape shape{.kind = RouterKind::sigmoid_grouped,
                          .experts = 8,
                          .top_k = 3,
                          .groups = 4,
                          .top_groups = 2,
                          .normalize = true,
                          .scaling = 2.5f};
  const auto s = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  // Group sums of sigmoids: {3, -3}: 1.0; {1, 1}: 1.46; {0.9, 0.8}: 1.40; {-1, -1}: 0.54.
  const std::vector<float> logits{3.0f, -3.0f, 1.0f, 1.0f, 0.9f, 0.8f, -1.0f, -1.0f};
  const Routing no_bias = route(shape, logits);
  CHECK(no_bias.ids == std::vector<std::int32_t>{2, 3, 4});  // the best single expert, 0, is in no kept group
  const double total = s(1.0) + s(1.0) + s(0.9);
  CHECK(
      first_difference(no_bias.weights,
                       std::vector<double>{2.5 * s(1.0) / total, 2.5 * s(1.0) / total, 2.5 * s(0.9) / total},
                       kFp32) == "");

  // A bias on expert 1 lifts its group to 1.0 + 0.6 = 1.60 and pushes {0.9, 0.8} out; its weight has no bias
  // in it.
  const std::vector<float> bias{0, 0.6f, 0, 0, 0, 0, 0, 0};
  const Routing biased = route(shape, logits, bias.data());
  CHECK(biased.ids == std::vector<std::int32_t>{0, 2, 3});
  const std::vector<float> bias_more{0, 0.9f, 0, 0, 0, 0, 0, 0};  // choice of 1: 0.947, of 0: 0.953
  const Routing more = route(shape, logits, bias_more.data());
  CHECK(more.ids == std::vector<std::int32_t>{0, 1, 2});
  const double sum = s(3.0) + s(-3.0) + s(1.0);
  CHECK(first_difference(more.weights,
                         std::vector<double>{2.5 * s(3.0) / sum, 2.5 * s(-3.0) / sum, 2.5 * s(1.0) / sum},
                         kFp32) == "");
}

TEST_CASE("sigmoid_grouped: negative choices of kept groups beat everything outside them") {
  const RouterShape shape{
      .kind = RouterKind::sigmoid_grouped, .experts = 4, .top_k = 2, .groups = 2, .top_groups = 1};
  const std::vector<float> bias{-1, -1, -1.1f, -1.1f};
  CHECK(route(shape, {-4, -4, -4, -4}, bias.data()).ids == std::vector<std::int32_t>{0, 1});
}

TEST_CASE("groups of one expert, and one group of all") {
  const std::vector<float> logits{0.1f, 0.4f, 0.3f, 0.2f};
  CHECK(route({.kind = RouterKind::sigmoid_grouped, .experts = 4, .top_k = 2, .groups = 4, .top_groups = 2},
              logits)
            .ids == std::vector<std::int32_t>{1, 2});
  CHECK(route({.kind = RouterKind::sigmoid_grouped, .experts = 4, .top_k = 4, .groups = 1, .top_groups = 1},
              logits)
            .ids == std::vector<std::int32_t>{1, 2, 3, 0});
}

TEST_CASE("NaN logits give NaN weights but ids that can be followed") {
  const RouterKind kind = GENERATE(RouterKind::softmax_topk, RouterKind::sigmoid_grouped);
  const RouterShape shape{
      .kind = kind, .experts = 8, .top_k = 4, .groups = 2, .top_groups = 1, .normalize = true};
  const Routing r = route(shape, std::vector<float>(8, NAN));
  CHECK(std::set<std::int32_t>(r.ids.begin(), r.ids.end()).size() == 4);
  for (const auto id : r.ids) CHECK((id >= 0 && id < 8));
  for (const auto w : r.weights) CHECK(std::isnan(w));
}

TEST_CASE("a router that cannot be is refused") {
  CHECK_THROWS(route({.experts = 8, .top_k = 9}, std::vector<float>(8)));
  CHECK_THROWS(route({.experts = 8, .top_k = 3, .groups = 4, .top_groups = 1}, std::vector<float>(8)));
  CHECK_THROWS(route({.experts = 8, .top_k = 1, .groups = 3}, std::vector<float>(8)));
}
