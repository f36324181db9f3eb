#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "backend/device_under_test.hpp"
#include "kernels/reference/math.hpp"
#include "roofline/step/sharding.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

std::vector<double> gated(const GatedUnit& unit, const std::vector<BF16>& gate_up, std::size_t m,
                          std::size_t f) {
  std::vector<double> y;
  for (std::size_t row = 0; row < m; ++row) {
    reference::Vector gate, up;
    for (std::size_t i = 0; i < f; ++i) {
      gate.push_back(as_double(gate_up[row * 2 * f + i]));
      up.push_back(as_double(gate_up[(row * 2 + 1) * f + i]));
    }
    const reference::Vector out = reference::gated(unit, gate, up);
    y.insert(y.end(), out.begin(), out.end());
  }
  return y;
}

constexpr GatedUnit silu{}, clamped{.kind = GatedUnit::Kind::clamped_silu, .limit = 3.0},
    gelu{.kind = GatedUnit::Kind::gelu_tanh};

}  // namespace

TEST_CASE("backend: gated units over widths that are no multiple of anything") {
  const GatedUnit unit = GENERATE(silu, clamped, gelu);
  const std::int64_t m = GENERATE(1, 3), f = GENERATE(1, 31, 1024, 1409);
  const auto count = static_cast<std::size_t>(m * f);
  const auto gate_up = random_bf16(2 * count, 1, 4.0f);
  auto expected = gated(unit, gate_up, static_cast<std::size_t>(m), static_cast<std::size_t>(f));
  expected.resize(count + 8, std::nan(""));  // nothing behind the end
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> in(gate_up), out(count + 8, bf16_nan());
    device().gated(unit, m, f, in.data(), out.data());
    // Of gelu's tail 1 + tanh is left from numbers near 1.
    CHECK(first_difference(out.values(), expected, kBf16, unit == gelu ? 1e-6 : 1e-30) == "");
  });
}

TEST_CASE("backend: gated units at the ends of the exponential") {
  const GatedUnit unit = GENERATE(silu, clamped, gelu);
  std::vector<BF16> gate_up;
  for (const float g : {0.0f, -0.0f, 86.0f, -86.0f, 100.0f, -100.0f, 1e30f}) gate_up.push_back(to_bf16(g));
  gate_up.push_back(bf16_nan());
  gate_up.push_back(to_bf16(-1e30f));
  gate_up.insert(gate_up.end(), 9, to_bf16(2.0f));
  auto expected = gated(unit, gate_up, 1, 9);
  const DeviceVector<BF16> in(gate_up), out(9, bf16_nan());
  device().gated(unit, 1, 9, in.data(), out.data());
  auto found = out.values();
  // Where exp is held at exp(-87), as on the CPU, the product is still negligible.
  CHECK(std::fabs(to_float(found.back())) < 1e-7f);
  found.pop_back();
  expected.pop_back();
  CHECK(first_difference(found, expected, kBf16, 1e-35) == "");
}

TEST_CASE("backend: gpt-oss's unit clamps, but no NaN") {
  std::vector<BF16> gate_up;
  for (const float g : {9.0f, -9.0f, 1.0f, 1.0f, 1.0f}) gate_up.push_back(to_bf16(g));
  gate_up.push_back(bf16_nan());
  for (const float u : {1.0f, 1.0f, 9.0f, -9.0f}) gate_up.push_back(to_bf16(u));
  gate_up.push_back(bf16_nan());
  gate_up.push_back(to_bf16(1.0f));
  const DeviceVector<BF16> in(gate_up), out(6, bf16_nan());
  device().gated(clamped, 1, 6, in.data(), out.data());
  const auto sigmoid = [](double x) { return 1.0 / (1.0 + std::exp(-x)); };
  const double one = sigmoid(1.702), nan = std::nan("");
  const std::vector<double> expected{
      3 * sigmoid(1.702 * 3) * 2, -9 * sigmoid(-1.702 * 9) * 2, one * 4, one * -2, nan, nan};
  CHECK(first_difference(out.values(), expected, kBf16) == "");
}

TEST_CASE("backend: every row gets the bias, and nothing between the rows") {
  const std::int64_t rows = 3, cols = GENERATE(1, 31, 300), ld = cols + 5;
  const auto bias = random_bf16(static_cast<std::size_t>(cols), 1);
  const auto before = random_bf16(static_cast<std::size_t>(rows * ld), 2);
  std::vector<double> expected;
  for (const BF16 v : before) expected.push_back(as_double(v));
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < cols; ++i)
      expected[static_cast<std::size_t>(r * ld + i)] += as_double(bias[static_cast<std::size_t>(i)]);
  }
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> y(before), added(bias);
    device().add_bias(rows, cols, added.data(), y.data(), ld);
    CHECK(first_difference(y.values(), expected, kBf16, 1e-30) == "");
  });
}

TEST_CASE("backend: rows are scaled by their positions, and nothing between the rows") {
  const std::vector<std::int64_t> positions{0, 15, 16, 47, 1'000'000};
  const std::vector<double> periods{1, 1, 2, 3, 62501};
  const std::int64_t cols = GENERATE(1, 31, 300), ld = cols + 3;
  const auto before = random_bf16(positions.size() * static_cast<std::size_t>(ld), 2);
  std::vector<double> expected;
  for (std::size_t i = 0; i < before.size(); ++i) {
    const std::size_t row = i / static_cast<std::size_t>(ld);
    const bool between = i % static_cast<std::size_t>(ld) >= static_cast<std::size_t>(cols);
    expected.push_back(as_double(before[i]) * (between ? 1.0 : 1.0 + 0.1 * std::log(periods[row])));
  }
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> y(before);
    const DeviceVector<std::int64_t> at(positions);
    device().scale_by_position(std::ssize(positions), cols, {.rate = 0.1f, .period = 16}, at.data(), y.data(),
                               ld);
    CHECK(first_difference(y.values(), expected, kBf16, 1e-30) == "");
  });
}

TEST_CASE("backend: rows are scaled by the sigmoids of their logits, however large") {
  const std::vector<float> logits{0.0f, 2.5f, -3.0f, 80.0f, -80.0f, 1e30f};
  const std::int64_t cols = GENERATE(1, 31, 300);
  const auto width = static_cast<std::size_t>(cols);
  const auto before = random_bf16(width * logits.size(), 2);
  std::vector<double> expected;
  for (std::size_t i = 0; i < before.size(); ++i)
    expected.push_back(as_double(before[i]) / (1.0 + std::exp(-as_double(logits[i / width]))));
  in_every_order_of_threads([&] {
    const DeviceVector<float> in(logits);
    const DeviceVector<BF16> y(before);
    device().gate_rows(std::ssize(logits), cols, in.data(), y.data());
    CHECK(first_difference(y.values(), expected, kBf16, 1e-30) == "");
  });
}

TEST_CASE("backend: embed takes the rows of its own vocabulary range, zero elsewhere") {
  const std::int64_t hidden = GENERATE(37, 64), first = 100, rows = 4;
  const auto width = static_cast<std::size_t>(hidden);
  const auto table = random_bf16(width * 4, 1);
  const DeviceVector<std::int32_t> tokens({99, 100, 103, 104, -1});
  const DeviceVector<BF16> on_device(table), out(5 * width, bf16_nan());
  device().embed(5, hidden, tokens.data(), on_device.data(), first, rows, out.data());
  std::vector<BF16> expected(5 * width);
  std::copy_n(table.begin(), width, expected.begin() + hidden);
  std::copy_n(table.begin() + 3 * hidden, width, expected.begin() + 2 * hidden);
  CHECK(first_difference(out.values(), expected, 0.0) == "");
}

TEST_CASE("backend: argmax: the largest anywhere, ties to the lower index, NaN above all") {
  const std::int64_t cols = GENERATE(1, 5, 2048, 5000);
  const auto n = static_cast<std::size_t>(cols);
  for (const std::size_t at : {std::size_t{0}, n / 2, n - 1}) {
    auto logits = random_floats(2 * n, 7);
    logits[at] = 100.0f;
    logits[n - 1] = std::max(logits[n - 1], logits[at]);  // a tie unless it is the same one
    logits[n + at] = NAN;
    const DeviceVector<float> in(logits);
    in_every_order_of_threads([&] {
      const DeviceVector<TopLogit> top(2, TopLogit{-1, -9});
      device().argmax(2, cols, in.data(), 1000, top.data());
      const auto found = top.values();
      CHECK(found[0].value == 100.0f);
      CHECK(found[0].index == static_cast<std::int32_t>(1000 + at));
      CHECK(std::isnan(found[1].value));
      CHECK(found[1].index == static_cast<std::int32_t>(1000 + at));
    });
  }
  const DeviceVector<float> hopeless(n, -std::numeric_limits<float>::infinity());
  const DeviceVector<TopLogit> top(1, TopLogit{-1, -9});
  device().argmax(1, cols, hopeless.data(), 3, top.data());
  CHECK(top.values()[0].index == 3);
  device().argmax(1, 0, hopeless.data(), 3, top.data());
  CHECK(top.values()[0].index < 0);
}

TEST_CASE("backend: select_token: ties to the lower index, parts without logits left out") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  const DeviceVector<TopLogit> gathered({{5, 40},
                                         {-1, -1},
                                         {1, 3},
                                         {9, -1},  //
                                         {5, 7},
                                         {-3, 12},
                                         {NAN, 8},
                                         {9, -1},  //
                                         {4, 2},
                                         {-3, 11},
                                         {2, 5},
                                         {-inf, -1}});
  const DeviceVector<std::int32_t> tokens(4, -9);
  device().select_token(3, 4, gathered.data(), tokens.data());
  CHECK(tokens.values() == std::vector<std::int32_t>{7, 11, 8, -1});
}

TEST_CASE("backend: advance moves every position, and the lengths of the owner only") {
  const DeviceVector<std::int64_t> positions(std::vector<std::int64_t>{0, 5'000'000'000}), slots(2, -1),
      lengths(std::vector<std::int64_t>{3, 0});
  device().advance(2, Append::none, positions.data(), slots.data(), lengths.data());
  CHECK(lengths.values() == std::vector<std::int64_t>{3, 0});
  device().advance(2, Append::grows, positions.data(), slots.data(), lengths.data());
  CHECK(positions.values() == std::vector<std::int64_t>{2, 5'000'000'002});
  CHECK(slots.values() == std::vector<std::int64_t>{3, 0});
  CHECK(lengths.values() == std::vector<std::int64_t>{4, 1});
}

TEST_CASE("backend: advance_rows gives a step's tokens to the ranks whose turns it lasts into") {
  using Values = std::vector<std::int64_t>;
  const std::int64_t context = 5'000'000'000;
  const DeviceVector<std::int64_t> decoded(Values{-1, 0}), accepted(Values{1, 3}), positions(6, -9),
      slots(6, -9), lengths(6, -9);
  const StepState state{decoded.data(), accepted.data(), positions.data(), slots.data(), lengths.data()};
  // Blocks of two tokens on three ranks; token 0 is the second of a block of rank 0.
  AppendTurns turns{.first = 7, .block = 2, .ranks = 3, .rank = 1, .context = context, .history = 10};
  device().advance_rows(2, 3, turns, state);
  CHECK(decoded.values() == Values{0, 3});
  CHECK(positions.values() ==
        Values{context, context + 1, context + 2, context + 3, context + 4, context + 5});
  CHECK(slots.values() == Values{-1, 10, 11, -1, -1, -1});
  CHECK(lengths.values() == Values{10, 11, 12, 12, 12, 12});
  turns.rank = 0;
  device().advance_rows(2, 3, turns, state);
  CHECK(decoded.values() == Values{1, 6});
  CHECK(slots.values() == Values{-1, -1, -1, 12, -1, -1});
  CHECK(lengths.values() == Values{11, 11, 11, 13, 13, 13});
}

TEST_CASE("backend: copy_rows takes rows from one stride to another, and one of several by its number") {
  using Values = std::vector<std::int64_t>;
  const DeviceVector<std::int64_t> from(Values{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}), to(6, -9);
  const DeviceVector<std::int64_t> counts(Values{3, 1});
  // Rows of one value, of which two lie side by side: too narrow to be taken 16 bytes at a time.
  device().copy_rows({.rows = 3,
                      .bytes = sizeof(std::int64_t),
                      .from = from.data() + 1,
                      .from_stride = 4 * sizeof(std::int64_t),
                      .to = to.data(),
                      .to_stride = 2 * sizeof(std::int64_t)});
  CHECK(to.values() == Values{1, -9, 5, -9, 9, -9});
  // Of two requests with three rows of two values the third and the first.
  device().copy_rows({.rows = 2,
                      .bytes = 2 * sizeof(std::int64_t),
                      .from = from.data(),
                      .from_stride = 6 * sizeof(std::int64_t),
                      .to = to.data(),
                      .to_stride = 4 * sizeof(std::int64_t),
                      .counts = counts.data()});
  CHECK(to.values() == Values{4, 5, 5, -9, 6, 7});
  const DeviceVector<std::int32_t> tokens(std::vector<std::int32_t>{7, 8, 9}), picked(3, -1);
  device().copy_rows({.rows = 1,
                      .bytes = sizeof(std::int32_t),
                      .from = tokens.data(),
                      .from_stride = sizeof(std::int32_t),
                      .to = picked.data() + 1,
                      .to_stride = sizeof(std::int32_t),
                      .counts = counts.data()});
  CHECK(picked.values() == std::vector<std::int32_t>{-1, 9, -1});
}

TEST_CASE("the turns to append are those of the step's model") {
  for (const int block : {1, 3, 32})
    for (const int ranks : {1, 2, 5})
      for (const int rank : {0, ranks - 1})
        for (const std::int64_t first : {0, 1, 31, 100}) {
          const AppendTurns turns{.first = first, .block = block, .ranks = ranks, .rank = rank};
          for (std::int64_t token = 0; token < 200; ++token) {
            REQUIRE(turns.mine(token) == (append_owner(first + token, block, ranks) == rank));
            REQUIRE(turns.kept(token) == appended_tokens(first + token, block, ranks, rank) -
                                             appended_tokens(first, block, ranks, rank));
          }
        }
}

TEST_CASE(
    "backend: a full window's slots go round, from the first one behind a history or behind what grew") {
  using Values = std::vector<std::int64_t>;
  // Of a history alone slots are its length, as a rewind leaves them.
  const DeviceVector<std::int64_t> slots(Values{2, 3}), lengths(Values{2, 3});
  const auto slots_after = [&](Append append) {
    device().advance(2, append, nullptr, slots.data(), lengths.data());
    return slots.values();
  };
  CHECK(slots_after(Append::replaces) == Values{0, 0});
  CHECK(slots_after(Append::none) == Values{0, 0});
  CHECK(slots_after(Append::replaces) == Values{1, 1});
  CHECK(slots_after(Append::replaces) == Values{0, 2});
  CHECK(lengths.values() == Values{2, 3});
  CHECK(slots_after(Append::grows) == Values{2, 3});
  CHECK(slots_after(Append::replaces) == Values{0, 0});
  CHECK(lengths.values() == Values{3, 4});
}
