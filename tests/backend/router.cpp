#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "backend/device_under_test.hpp"
#include "kernels/reference/routing.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

struct Routed {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;
};

Routed route(const RouterShape& shape, const std::vector<float>& logits,
             const std::vector<float>& bias = {}) {
  const auto batch = static_cast<std::int64_t>(logits.size()) / shape.experts;
  const auto count = static_cast<std::size_t>(batch * shape.top_k);
  const DeviceVector<float> in(logits), bias_in(bias), weights(count, NAN);
  const DeviceVector<std::int32_t> ids(count, -7);
  device().route(shape, batch, in.data(), bias.empty() ? nullptr : bias_in.data(), ids.data(),
                 weights.data());
  return {ids.values(), weights.values()};
}

constexpr double kFp32 = 1e-6;  // a few roundings of exp, sum and quotient

}  // namespace

TEST_CASE("backend: softmax_topk: probabilities over all experts, normalised only when asked") {
  const std::vector<float> logits{std::log(1.0f), std::log(4.0f), std::log(2.0f),
                                  std::log(3.0f)};  // p = .1 .4 .2 .3
  RouterShape shape{.kind = RouterKind::softmax_topk, .experts = 4, .top_k = 2};
  const Routed plain = route(shape, logits);
  CHECK(plain.ids == std::vector<std::int32_t>{1, 3});
  CHECK(first_difference(plain.weights, std::vector<double>{0.4, 0.3}, kFp32) == "");
  shape.normalize = true;
  shape.scaling = 2.5f;
  CHECK(first_difference(route(shape, logits).weights, std::vector<double>{2.5 * 4 / 7, 2.5 * 3 / 7},
                         kFp32) == "");
}

TEST_CASE("backend: softmax_topk: ties go to the lower expert and large logits do not overflow") {
  const RouterShape shape{.kind = RouterKind::softmax_topk, .experts = 5, .top_k = 3};
  const Routed r = route(shape, {200, 100, 200, 200, 200});
  CHECK(r.ids == std::vector<std::int32_t>{0, 2, 3});
  CHECK(first_difference(r.weights, std::vector<double>{0.25, 0.25, 0.25}, kFp32) == "");
}

TEST_CASE("backend: routing agrees with the reference over a batch") {
  struct Case {
    RouterShape shape;
    bool biased = false;
  };
  const auto softmax = RouterKind::softmax_topk;
  const auto grouped = RouterKind::sigmoid_grouped;
  const auto softmax_grouped = RouterKind::softmax_grouped;
  const Case c = GENERATE_COPY(
      Case{{.kind = softmax, .experts = 4, .top_k = 2, .scaling = 2.5f}},
      Case{{.kind = softmax, .experts = 67, .top_k = 6, .normalize = true}},
      Case{{.kind = softmax, .experts = 128, .top_k = 8, .normalize = true}},
      Case{{.kind = softmax, .experts = 32, .top_k = 4, .normalize = true}, true},          // gpt-oss
      Case{{.kind = softmax_grouped, .experts = 64, .top_k = 6, .normalize = true}, true},  // ERNIE-4.5
      Case{
          {.kind = softmax_grouped, .experts = 160, .top_k = 6, .groups = 8, .top_groups = 3, .scaling = 16}},
      Case{{.kind = softmax_grouped, .experts = 6, .top_k = 2, .groups = 6, .top_groups = 3}, true},
      Case{{.kind = grouped, .experts = 4, .top_k = 2, .groups = 4, .top_groups = 2}},
      Case{{.kind = grouped, .experts = 72, .top_k = 3, .groups = 36, .top_groups = 34}, true},
      Case{{.kind = grouped,
            .experts = 256,
            .top_k = 8,
            .groups = 8,
            .top_groups = 4,
            .normalize = true,
            .scaling = 2.5f},
           true},
      Case{{.kind = grouped, .experts = 384, .top_k = 8, .normalize = true, .scaling = 2.827f}, true});
  const RouterShape& s = c.shape;
  // More tokens than a block of the GPU kernel takes, and than the CPU has threads.
  const std::size_t batch = s.experts == 67 ? 33 : 7, experts = static_cast<std::size_t>(s.experts),
                    k = static_cast<std::size_t>(s.top_k);
  const auto logits = random_floats(batch * experts, 1);
  const auto bias = c.biased ? random_floats(experts, 2, 0.1f) : std::vector<float>(experts, 0.0f);
  const MoeSpec moe{.experts = s.experts,
                    .top_k = s.top_k,
                    .router = s.kind,
                    .normalize_top_k = s.normalize,
                    .routed_scaling = static_cast<double>(s.scaling),
                    .groups = s.groups,
                    .top_groups = s.top_groups};
  in_every_order_of_threads([&] {
    const Routed r = route(s, logits, c.biased ? bias : std::vector<float>{});
    for (std::size_t b = 0; b < batch; ++b) {
      const reference::Vector row(logits.begin() + static_cast<std::ptrdiff_t>(b * experts),
                                  logits.begin() + static_cast<std::ptrdiff_t>((b + 1) * experts));
      const reference::Routing expected = reference::route(moe, row, bias, {}, 0.0);
      const auto first = static_cast<std::ptrdiff_t>(b * k), end = first + static_cast<std::ptrdiff_t>(k);
      CHECK(std::vector(r.ids.begin() + first, r.ids.begin() + end) == expected.experts);
      CHECK(first_difference(std::vector(r.weights.begin() + first, r.weights.begin() + end),
                             expected.weights, kFp32) == "");
    }
  });
}

// Values from an independent NumPy transcription of DeepSeek-V3's gate (see the
// formulas in kernels/cpu/small/router.cpp).
TEST_CASE("backend: sigmoid_grouped: groups by their two best choices, bias for the choice only") {
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
  const Routed no_bias = route(shape, logits);
  CHECK(no_bias.ids == std::vector<std::int32_t>{2, 3, 4});  // the best single expert, 0, is in no kept group
  const double total = s(1.0) + s(1.0) + s(0.9);
  CHECK(
      first_difference(no_bias.weights,
                       std::vector<double>{2.5 * s(1.0) / total, 2.5 * s(1.0) / total, 2.5 * s(0.9) / total},
                       kFp32) == "");

  // A bias on expert 1 lifts its group to 1.0 + 0.6 = 1.60 and pushes {0.9, 0.8} out; its weight has no bias
  // in it.
  const std::vector<float> bias{0, 0.6f, 0, 0, 0, 0, 0, 0};
  const Routed biased = route(shape, logits, bias);
  CHECK(biased.ids == std::vector<std::int32_t>{0, 2, 3});
  const std::vector<float> bias_more{0, 0.9f, 0, 0, 0, 0, 0, 0};  // choice of 1: 0.947, of 0: 0.953
  const Routed more = route(shape, logits, bias_more);
  CHECK(more.ids == std::vector<std::int32_t>{0, 1, 2});
  const double sum = s(3.0) + s(-3.0) + s(1.0);
  CHECK(first_difference(more.weights,
                         std::vector<double>{2.5 * s(3.0) / sum, 2.5 * s(-3.0) / sum, 2.5 * s(1.0) / sum},
                         kFp32) == "");
}

TEST_CASE("backend: sigmoid_grouped: negative choices of kept groups beat everything outside them") {
  const RouterShape shape{
      .kind = RouterKind::sigmoid_grouped, .experts = 4, .top_k = 2, .groups = 2, .top_groups = 1};
  const std::vector<float> bias{-1, -1, -1.1f, -1.1f};
  CHECK(route(shape, {-4, -4, -4, -4}, bias).ids == std::vector<std::int32_t>{0, 1});
}

TEST_CASE("backend: softmax_grouped: groups by their best choice, bias for the choice only") {
  // p = .05 .3 .2 .2 .15 .1: of three pairs the first has the best expert, the second the best sum.
  std::vector<float> logits;
  for (const float p : {0.05f, 0.3f, 0.2f, 0.2f, 0.15f, 0.1f}) logits.push_back(std::log(p));
  const RouterShape shape{
      .kind = RouterKind::softmax_grouped, .experts = 6, .top_k = 2, .groups = 3, .top_groups = 1};
  const Routed first = route(shape, logits);
  CHECK(first.ids == std::vector<std::int32_t>{1, 0});
  CHECK(first_difference(first.weights, std::vector<double>{0.3, 0.05}, kFp32) == "");
  // Of all experts, 5 is chosen with .1 + .25, and has the weight .1.
  const RouterShape ungrouped{
      .kind = RouterKind::softmax_grouped, .experts = 6, .top_k = 2, .normalize = true};
  const Routed biased = route(ungrouped, logits, {0, 0, 0, 0, 0, 0.25f});
  CHECK(biased.ids == std::vector<std::int32_t>{5, 1});
  CHECK(first_difference(biased.weights, std::vector<double>{0.25, 0.75}, kFp32) == "");
}

TEST_CASE("backend: groups of one expert, and one group of all") {
  const std::vector<float> logits{0.1f, 0.4f, 0.3f, 0.2f};
  CHECK(route({.kind = RouterKind::sigmoid_grouped, .experts = 4, .top_k = 2, .groups = 4, .top_groups = 2},
              logits)
            .ids == std::vector<std::int32_t>{1, 2});
  CHECK(route({.kind = RouterKind::sigmoid_grouped, .experts = 4, .top_k = 4, .groups = 1, .top_groups = 1},
              logits)
            .ids == std::vector<std::int32_t>{1, 2, 3, 0});
}

TEST_CASE("backend: NaN logits give NaN weights but ids that can be followed") {
  const RouterKind kind =
      GENERATE(RouterKind::softmax_topk, RouterKind::softmax_grouped, RouterKind::sigmoid_grouped);
  const RouterShape shape{
      .kind = kind, .experts = 8, .top_k = 4, .groups = 2, .top_groups = 1, .normalize = true};
  const Routed r = route(shape, std::vector<float>(8, NAN));
  CHECK(std::set<std::int32_t>(r.ids.begin(), r.ids.end()).size() == 4);
  for (const auto id : r.ids) CHECK((id >= 0 && id < 8));
  for (const auto w : r.weights) CHECK(std::isnan(w));
}

TEST_CASE("backend: a router that cannot be is refused") {
  CHECK_THROWS(route({.experts = 8, .top_k = 9}, std::vector<float>(8)));
  CHECK_THROWS(route({.experts = 8, .top_k = 3, .groups = 4, .top_groups = 1}, std::vector<float>(8)));
  CHECK_THROWS(route({.experts = 8, .top_k = 1, .groups = 3}, std::vector<float>(8)));
}
