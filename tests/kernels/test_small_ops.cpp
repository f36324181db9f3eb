#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "kernels/cpu/small_ops.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {
constexpr float kInf = std::numeric_limits<float>::infinity();
}

TEST_CASE("the comparison helpers see NaN, infinities and lengths") {
  using V = std::vector<double>;
  CHECK(relative_error(V{1, 2}, V{1, 2}) == 0.0);
  CHECK(relative_error(V{3, 4.5}, V{3, 4}) == Approx(0.1));
  CHECK(relative_error(V{1, NAN}, V{1, 2}) == HUGE_VAL);
  CHECK(relative_error(V{1, 2}, V{1, NAN}) == HUGE_VAL);
  CHECK(relative_error(V{HUGE_VAL}, V{-HUGE_VAL}) == HUGE_VAL);
  CHECK(relative_error(V{NAN, 1}, V{NAN, 1}) == 0.0);
  CHECK(relative_error(V{1}, V{0}) == HUGE_VAL);
  CHECK(relative_error(V{1}, V{1, 2}) == HUGE_VAL);
  CHECK(first_difference(V{1, NAN}, V{1, 2}, 1e9) != "");
  CHECK(first_difference(V{1, 2}, V{1, NAN}, 1e9) != "");
  CHECK(first_difference(V{5}, V{HUGE_VAL}, 1.0) != "");
  CHECK(first_difference(V{HUGE_VAL}, V{5}, 1.0) != "");
  CHECK(first_difference(V{NAN, HUGE_VAL}, V{NAN, HUGE_VAL}, 0.0) == "");
  CHECK(first_difference(V{1.1}, V{1.0}, 0.05) != "");
  CHECK(first_difference(V{1.04}, V{1.0}, 0.05) == "");
}

TEST_CASE("swiglu over widths that are no multiple of anything") {
  const std::int64_t m = GENERATE(1, 3), f = GENERATE(1, 31, 1024, 1409);
  const auto gate_up = random_bf16(static_cast<std::size_t>(2 * m * f), 1, 4.0f);
  std::vector<double> expected;
  for (std::int64_t row = 0; row < m; ++row) {
    for (std::int64_t i = 0; i < f; ++i) {
      const double g = as_double(gate_up[static_cast<std::size_t>(row * 2 * f + i)]);
      expected.push_back(g / (1.0 + std::exp(-g)) *
                         as_double(gate_up[static_cast<std::size_t>((row * 2 + 1) * f + i)]));
    }
  }
  std::vector<BF16> out(expected.size(), bf16_nan());
  cpu::swiglu(m, f, gate_up.data(), out.data(), 2);
  CHECK(first_difference(out, expected, 0x1.01p-8, 1e-30) == "");  // one rounding to bf16
}

TEST_CASE("swiglu at the ends of the exponential") {
  const std::vector<float> gates{0.0f, -0.0f, 86.0f, -86.0f, 100.0f, 1e30f, -100.0f, -1e30f};
  std::vector<BF16> gate_up;
  for (const float g : gates) gate_up.push_back(to_bf16(g));
  for (std::size_t i = 0; i < gates.size(); ++i) gate_up.push_back(to_bf16(2.0f));
  std::vector<BF16> out(gates.size(), bf16_nan());
  cpu::swiglu(1, static_cast<std::int64_t>(gates.size()), gate_up.data(), out.data(), 1);
  for (std::size_t i = 0; i < 6; ++i) {
    const double g = as_double(gate_up[i]);
    CHECK(as_double(out[i]) == Approx(2.0 * g / (1.0 + std::exp(-g))).epsilon(0x1p-8).margin(1e-30));
  }
  CHECK(std::fabs(to_float(out[6])) < 1e-35f);  // exp is held at exp(-87) and the product is still negligible
  CHECK(std::fabs(to_float(out[7])) < 1e-7f);

  gate_up[3] = bf16_nan();
  cpu::swiglu(1, static_cast<std::int64_t>(gates.size()), gate_up.data(), out.data(), 1);
  CHECK(std::isnan(to_float(out[3])));
}

TEST_CASE("embed takes the rows of its own vocabulary range, zero elsewhere") {
  const std::int64_t hidden = 37, first = 100, rows = 4;
  const auto table = random_bf16(static_cast<std::size_t>(hidden * rows), 1);
  const std::vector<std::int32_t> tokens{99, 100, 103, 104, -1};
  std::vector<BF16> out(static_cast<std::size_t>(hidden) * tokens.size(), bf16_nan());
  cpu::embed(5, hidden, tokens.data(), table.data(), first, rows, out.data());
  for (std::size_t i = 0; i < static_cast<std::size_t>(hidden); ++i) {
    CHECK(out[i].bits == 0);
    CHECK(out[37 + i].bits == table[i].bits);
    CHECK(out[2 * 37 + i].bits == table[3 * 37 + i].bits);
    CHECK(out[3 * 37 + i].bits == 0);
    CHECK(out[4 * 37 + i].bits == 0);
  }
}

TEST_CASE("argmax: the largest anywhere, ties to the lower index, NaN above all") {
  const std::int64_t cols = GENERATE(1, 5, 2048, 5000);
  const auto n = static_cast<std::size_t>(cols);
  for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
    auto logits = random_floats(2 * n, 7);
    logits[at] = 100.0f;
    logits[n - 1] = std::max(logits[n - 1], logits[at]);  // a tie unless it is the same one
    logits[n + at] = NAN;
    TopLogit top[2];
    cpu::argmax(2, cols, logits.data(), 1000, top, 2);
    CHECK(top[0].value == 100.0f);
    CHECK(top[0].index == static_cast<std::int32_t>(1000 + at));
    CHECK(std::isnan(top[1].value));
    CHECK(top[1].index == static_cast<std::int32_t>(1000 + at));
  }
  const std::vector<float> hopeless(n, -kInf);
  TopLogit top;
  cpu::argmax(1, cols, hopeless.data(), 3, &top, 1);
  CHECK(top.index == 3);
  cpu::argmax(1, 0, nullptr, 3, &top, 1);
  CHECK(top.index < 0);
}

TEST_CASE("select_token: ties to the lower index, parts without logits left out") {
  // Parts are rows, requests columns.
  const std::vector<TopLogit> gathered{{5, 40}, {-1, -1}, {1, 3},   {9, -1},  //
                                       {5, 7},  {-3, 12}, {NAN, 8}, {9, -1},  //
                                       {4, 2},  {-3, 11}, {2, 5},   {-kInf, -1}};
  std::vector<std::int32_t> tokens(4, -9);
  cpu::select_token(3, 4, gathered.data(), tokens.data());
  CHECK(tokens == std::vector<std::int32_t>{7, 11, 8, -1});
}

TEST_CASE("advance moves every position, and the lengths of the owner only") {
  std::vector<std::int64_t> positions{0, 5'000'000'000}, slots(2), lengths{3, 0};
  cpu::advance(2, false, positions.data(), slots.data(), lengths.data());
  CHECK(lengths == std::vector<std::int64_t>{3, 0});
  cpu::advance(2, true, positions.data(), slots.data(), lengths.data());
  CHECK(positions == std::vector<std::int64_t>{2, 5'000'000'002});
  CHECK(slots == std::vector<std::int64_t>{3, 0});
  CHECK(lengths == std::vector<std::int64_t>{4, 1});
}
