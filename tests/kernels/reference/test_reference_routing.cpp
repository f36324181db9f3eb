#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/cpu/small/small_ops.hpp"
#include "kernels/reference/routing.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;
using reference::Vector;

namespace {

MoeSpec softmax_moe() {
  return {.experts = 5, .top_k = 2, .router = RouterKind::softmax_topk};
}

/// Four groups of two, of which two are kept.
MoeSpec grouped_moe() {
  return {.experts = 8, .top_k = 2, .router = RouterKind::sigmoid_grouped, .groups = 4, .top_groups = 2};
}

std::string problem(const MoeSpec& moe, const Vector& logits, std::vector<std::int32_t> given,
                    double tolerance) {
  const std::vector<float> no_bias(logits.size(), 0.0f);
  const auto routing = reference::route(moe, logits, no_bias, given, tolerance);
  if (routing.problem.empty()) {
    CHECK(routing.experts == given);
  } else {
    CHECK(routing.experts == reference::route(moe, logits, no_bias, {}, tolerance).experts);
  }
  return routing.problem;
}

}  // namespace

TEST_CASE("fp64 routing and the CPU's agree") {
  const RouterKind kind =
      GENERATE(RouterKind::softmax_topk, RouterKind::softmax_grouped, RouterKind::sigmoid_grouped);
  const bool grouped = kind != RouterKind::softmax_topk;
  const bool normalize = GENERATE(false, true);
  const MoeSpec moe{.experts = 48,
                    .top_k = 6,
                    .router = kind,
                    .normalize_top_k = normalize,
                    .routed_scaling = 2.5,
                    .groups = grouped ? 6 : 1,
                    .top_groups = grouped ? 3 : 1};
  const RouterShape shape{.kind = moe.router,
                          .experts = 48,
                          .top_k = 6,
                          .groups = moe.groups,
                          .top_groups = moe.top_groups,
                          .normalize = normalize,
                          .scaling = 2.5f};
  const auto bias = random_floats(48, 99, 0.05f);
  for (unsigned seed = 0; seed < 50; ++seed) {
    const auto logits = random_floats(48, seed, 1.5f);
    std::vector<std::int32_t> ids(6);
    std::vector<float> weights(6);
    cpu::route(shape, 1, logits.data(), bias.data(), ids.data(), weights.data(), 1);
    const auto expected = reference::route(moe, Vector(logits.begin(), logits.end()), bias, {}, 0.0);
    CHECK(ids == expected.experts);
    CHECK(first_difference(weights, expected.weights, 2e-6) == "");  // a few fp32 roundings
  }
}

TEST_CASE("softmax: an expert within the tolerance of the last one chosen will do") {
  const Vector logits{1.0, 3.0, 2.0, 1.95, 0.0};
  CHECK(problem(softmax_moe(), logits, {1, 2}, 0.1) == "");
  CHECK(problem(softmax_moe(), logits, {3, 1}, 0.1) == "");
  CHECK(problem(softmax_moe(), logits, {2, 3}, 0.1) !=
        "");  // both are near the second, but the first is missing
  CHECK(problem(softmax_moe(), logits, {1, 3}, 0.01) != "");
  CHECK(problem(softmax_moe(), logits, {1, 0}, 0.1) != "");
}

TEST_CASE("softmax with a bias on the choice: the tolerance is of the logits") {
  // p = 0.6, 0.1, 0.1, 0.1, 0.1; by a tenth of a logit 0.1 becomes at most 0.1 exp(0.1), and 0.6 is off by 0.025.
  const Vector logits{std::log(6.0), 0.0, 0.0, 0.0, 0.0};
  const MoeSpec moe{.experts = 5, .top_k = 2, .router = RouterKind::softmax_grouped};
  const std::vector<float> bias{0.0f, 0.06f, 0.03f, 0.005f, 0.0f};
  const auto problem_of = [&](std::vector<std::int32_t> given, double tolerance) {
    return reference::route(moe, logits, bias, given, tolerance).problem;
  };
  CHECK(reference::route(moe, logits, bias, {}, 0.0).experts == std::vector<std::int32_t>{0, 1});
  CHECK(problem_of({0, 2}, 0.1) == "");  // 0.03 below the second, within two times 0.025
  CHECK(problem_of({0, 3}, 0.1) != "");
  CHECK(problem_of({0, 2}, 0.05) != "");
  CHECK(problem_of({1, 2}, 0.1) != "");
}

TEST_CASE("a choice that is none is refused") {
  const Vector logits{1, 3, 2, 2, 0};
  CHECK(problem(softmax_moe(), logits, {1}, 9) != "");
  CHECK(problem(softmax_moe(), logits, {1, 1}, 9) != "");
  CHECK(problem(softmax_moe(), logits, {1, 5}, 9) != "");
  CHECK(problem(softmax_moe(), logits, {-1, 1}, 9) != "");
  CHECK(problem(softmax_moe(), {NAN, NAN, NAN, NAN, NAN}, {1, 2}, 9) != "");
}

TEST_CASE("weights are those of the experts taken over, in their order") {
  const Vector logits{std::log(1.0), std::log(5.0), std::log(2.0), std::log(1.99), std::log(0.01)};
  const std::vector<std::int32_t> given{3, 1};
  const auto routing = reference::route(softmax_moe(), logits, {}, given, 0.1);
  CHECK(first_difference(routing.weights, Vector{0.199, 0.5}, 1e-12) == "");
}

TEST_CASE("groups: a near tie of group scores may fall either way, a clear one may not") {
  // Group scores as sums of sigmoids: {2, 2} 1.76; {1, 1} 1.462; {2.5, -0.02} 1.419; {-3, -3} 0.09.
  const Vector logits{2, 2, 1, 1, 2.5, -0.02, -3, -3};
  CHECK(problem(grouped_moe(), logits, {0, 1}, 0.1) == "");
  CHECK(problem(grouped_moe(), logits, {0, 1}, 0) == "");  // the own choice
  CHECK(problem(grouped_moe(), logits, {4, 0}, 0) != "");
  CHECK(problem(grouped_moe(), logits, {4, 0}, 0.1) == "");  // the third group instead of the second
  CHECK(problem(grouped_moe(), logits, {4, 0}, 0.01) != "");
  CHECK(problem(grouped_moe(), logits, {0, 2}, 0.1) != "");  // expert 1 is clearly better than 2
  CHECK(problem(grouped_moe(), logits, {0, 6}, 0.1) != "");
  const MoeSpec three_of_two = {
      .experts = 8, .top_k = 3, .router = RouterKind::sigmoid_grouped, .groups = 4, .top_groups = 2};
  CHECK(problem(three_of_two, logits, {0, 2, 4}, 9) != "");  // three groups
}
