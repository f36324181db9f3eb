#include <catch2/catch.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "backend/synthetic_weights.hpp"
#include "kernels/reference/linear.hpp"
#include "kernels/reference/math.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

/// Routing of `batch` tokens to distinct experts.
struct Routing {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;

  Routing(std::int64_t batch, std::int64_t top_k, std::int64_t experts) {
    std::mt19937 engine(8);
    std::vector<std::int32_t> all(static_cast<std::size_t>(experts));
    std::iota(all.begin(), all.end(), 0);
    for (std::int64_t b = 0; b < batch; ++b) {
      std::shuffle(all.begin(), all.end(), engine);
      ids.insert(ids.end(), all.begin(), all.begin() + top_k);
      for (std::int64_t i = 0; i < top_k; ++i) weights.push_back(0.1f + 0.2f * static_cast<float>(i));
    }
  }
};

std::vector<double> gated(const GatedUnit& unit, const std::vector<double>& gate_up) {
  const auto half = gate_up.begin() + std::ssize(gate_up) / 2;
  return reference::gated(unit, {gate_up.begin(), half}, {half, gate_up.end()});
}

/// y += row `row` of a bias.
void add_row(const std::vector<BF16>& bias, std::size_t row, std::vector<double>& y) {
  for (std::size_t i = 0; i < y.size(); ++i) y[i] += as_double(bias[row * y.size() + i]);
}

struct Problem {
  std::int64_t batch, top_k = 3, hidden, ffn, first, local;
  SyntheticWeights gate_up, down;
  std::vector<BF16> x, shared, gate_up_bias{}, down_bias{};
  GatedUnit unit{};

  Problem(std::int64_t batch_, std::int64_t hidden_, std::int64_t ffn_, std::int64_t first_,
          std::int64_t local_, DType dtype)
      : batch(batch_),
        hidden(hidden_),
        ffn(ffn_),
        first(first_),
        local(local_),
        gate_up(2 * ffn, hidden, local, dtype, 1000),
        down(hidden, ffn, local, dtype, 2000),
        x(random_bf16(static_cast<std::size_t>(batch * hidden), 4)),
        shared(random_bf16(static_cast<std::size_t>(batch * hidden), 5)) {}

  /// As gpt-oss has them.
  void make_biased() {
    unit = {.kind = GatedUnit::Kind::clamped_silu, .limit = 1.0};
    gate_up_bias = random_bf16(static_cast<std::size_t>(local * 2 * ffn), 6);
    down_bias = random_bf16(static_cast<std::size_t>(local * hidden), 7);
  }

  /// Experts that nobody chose must not be read.
  void poison_unused(const Routing& routing) const {
    for (std::int32_t e = 0; e < local; ++e) {
      if (std::count(routing.ids.begin(), routing.ids.end(), e + first) != 0) continue;
      gate_up.poison(e);
      down.poison(e);
    }
  }

  std::vector<BF16> run(const Routing& routing, bool with_shared) const {
    const DeviceVector<BF16> in(x), shared_in(shared), out(x.size(), bf16_nan());
    const DeviceVector<std::int32_t> ids(routing.ids);
    const DeviceVector<float> weights(routing.weights);
    const DeviceVector<std::byte> scratch(unwritten,
                                          device().moe_scratch_bytes(batch, top_k, hidden, ffn, local));
    const DeviceVector<BF16> of_gate_up(gate_up_bias), of_down(down_bias);
    const bool biased = !down_bias.empty();
    device().moe_experts(batch, in.data(), {ids.data(), weights.data(), top_k},
                         {.first = first,
                          .gate_up = gate_up.packed(),
                          .down = down.packed(),
                          .unit = unit,
                          .gate_up_bias = biased ? of_gate_up.data() : nullptr,
                          .down_bias = biased ? of_down.data() : nullptr},
                         with_shared ? shared_in.data() : nullptr, out.data(), scratch.span());
    return out.values();
  }

  std::vector<double> expected(const Routing& routing, bool with_shared) const {
    std::vector<std::vector<double>> gate_up_values, down_values;
    for (std::int64_t e = 0; e < local; ++e) {
      gate_up_values.push_back(gate_up.values(e));
      down_values.push_back(down.values(e));
    }
    std::vector<double> out;
    for (std::int64_t b = 0; b < batch; ++b) {
      std::vector<double> token, sum;
      for (std::int64_t i = 0; i < hidden; ++i) {
        const auto at = static_cast<std::size_t>(b * hidden + i);
        token.push_back(as_double(x[at]));
        sum.push_back(with_shared ? as_double(shared[at]) : 0.0);
      }
      for (std::int64_t i = 0; i < top_k; ++i) {
        const auto choice = static_cast<std::size_t>(b * top_k + i);
        const std::int64_t e = routing.ids[choice] - first;
        if (e < 0 || e >= local) continue;
        const auto expert = static_cast<std::size_t>(e);
        auto products = reference::linear(1, 2 * ffn, hidden, token, gate_up_values[expert]);
        if (!gate_up_bias.empty()) add_row(gate_up_bias, expert, products);
        auto y = reference::linear(1, hidden, ffn, gated(unit, products), down_values[expert]);
        if (!down_bias.empty()) add_row(down_bias, expert, y);
        for (std::size_t j = 0; j < sum.size(); ++j) sum[j] += as_double(routing.weights[choice]) * y[j];
      }
      out.insert(out.end(), sum.begin(), sum.end());
    }
    return out;
  }
};

}  // namespace

TEST_CASE("backend: moe_experts against plain loops") {
  const DType dtype = GENERATE(from_range(weight_types()));
  const std::int64_t batch = GENERATE(1, 2, 5, 40, 150);
  const bool with_shared = GENERATE(false, true);
  // The second: widths of whole 16 bytes, and more inputs than one stage of the GPU kernel's pipeline.
  const auto [hidden, ffn] = GENERATE(table<std::int64_t, std::int64_t>({{50, 37}, {1352, 88}}));
  // Long under emulation, and nothing new.
  if (batch == 150 && (hidden > 50 || dtype != DType::bf16)) return;
  if (batch > 2 && hidden > 50 && with_shared) return;
  CAPTURE(name(dtype), batch, with_shared, hidden, ffn);
  const Problem p(batch, hidden, ffn, 2, 5, dtype);  // experts 2 to 6 of 9 are here
  const Routing routing(batch, p.top_k, 9);
  const auto expected = p.expected(routing, with_shared);
  p.poison_unused(routing);
  on_every_path([&] {
    // gate, up, their product and the result are each rounded to bf16 (2^-9 root mean square at most, 2^-8 at
    // worst); the first three average out over ffn.
    CHECK(relative_error(p.run(routing, with_shared), expected) < 4 * 0x1p-9);
  });
}

TEST_CASE("backend: moe_experts with biases and a clamped unit against plain loops") {
  const DType dtype = GENERATE(from_range(weight_types()));
  const std::int64_t batch = GENERATE(1, 5, 40);
  const auto [hidden, ffn] = GENERATE(table<std::int64_t, std::int64_t>({{50, 37}, {264, 88}}));
  CAPTURE(name(dtype), batch, hidden, ffn);
  Problem p(batch, hidden, ffn, 2, 5, dtype);
  p.make_biased();
  const Routing routing(batch, p.top_k, 9);
  const auto expected = p.expected(routing, true);
  p.poison_unused(routing);
  on_every_path([&] { CHECK(relative_error(p.run(routing, true), expected) < 5 * 0x1p-9); });
}

TEST_CASE("backend: the experts' sums do not depend on the order of blocks and threads") {
  const DType dtype = GENERATE(from_range(weight_types()));
  const std::int64_t batch = GENERATE(1, 5, 40);
  if (batch == 40 && emulated()) return;
  const bool with_shared = GENERATE(false, true);
  const Problem p(batch, 50, 37, 2, 5, dtype);
  const Routing routing(batch, p.top_k, 9);
  on_every_path([&] {
    const auto first = p.run(routing, with_shared);
    in_every_order_of_threads(
        [&] { CHECK(first_difference(p.run(routing, with_shared), first, 0.0) == ""); });
  });
}

TEST_CASE("backend: a token whose experts are all elsewhere gets nothing but the shared part") {
  const Problem p(2, 33, 16, 3, 2, DType::bf16);  // experts 3 and 4
  const Routing routing(2, p.top_k, 3);           // chosen: 0 to 2
  p.poison_unused(routing);
  in_every_order_of_threads([&] {
    CHECK(first_difference(p.run(routing, false), std::vector<double>(66, 0.0), 0.0) == "");
    CHECK(first_difference(p.run(routing, true), p.shared, 0.0) == "");
  });
}
