#include <catch2/catch.hpp>

#include <numeric>
#include <random>

#include "kernels/cpu/moe.hpp"
#include "kernels/reference/linear.hpp"
#include "tests/compare.hpp"
#include "tests/kernels/packed_weights.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

// Routing of `batch` tokens to distinct experts.
struct Routing {
  std::vector<std::int32_t> ids;
  std::vector<float> weights;

  Routing(std::int64_t batch, std::int64_t top_k, std::int64_t experts, unsigned seed) {
    std::mt19937 engine(seed);
    std::vector<std::int32_t> all(static_cast<std::size_t>(experts));
    std::iota(all.begin(), all.end(), 0);
    for (std::int64_t b = 0; b < batch; ++b) {
      std::shuffle(all.begin(), all.end(), engine);
      ids.insert(ids.end(), all.begin(), all.begin() + top_k);
      for (std::int64_t i = 0; i < top_k; ++i) weights.push_back(0.1f + 0.2f * static_cast<float>(i));
    }
  }
};

std::vector<double> swiglu(const std::vector<double>& gate_up) {
  const std::size_t f = gate_up.size() / 2;
  std::vector<double> out;
  for (std::size_t i = 0; i < f; ++i)
    out.push_back(gate_up[i] / (1.0 + std::exp(-gate_up[i])) * gate_up[f + i]);
  return out;
}

struct Problem {
  std::int64_t batch, top_k, hidden, ffn, first, local;
  SyntheticWeights gate_up, down;
  std::vector<BF16> x, shared;

  Problem(std::int64_t batch_, std::int64_t hidden_, std::int64_t ffn_, std::int64_t first_,
          std::int64_t local_, DType dtype)
      : batch(batch_),
        top_k(3),
        hidden(hidden_),
        ffn(ffn_),
        first(first_),
        local(local_),
        gate_up(2 * ffn, hidden, local, dtype, 1000),
        down(hidden, ffn, local, dtype, 2000),
        x(random_bf16(static_cast<std::size_t>(batch * hidden), 4)),
        shared(random_bf16(static_cast<std::size_t>(batch * hidden), 5)) {}

  std::vector<BF16> run(const Routing& routing, bool with_shared, int threads) const {
    const std::size_t bytes = cpu::moe_scratch_bytes(batch, top_k, hidden, ffn, local);
    constexpr std::size_t guard = 4096;
    std::vector<std::byte> scratch(bytes + guard, std::byte{0xff});  // NaN in every type
    std::vector<BF16> out(static_cast<std::size_t>(batch * hidden) + 64, bf16_nan());
    cpu::moe_experts(batch, top_k, x.data(), routing.ids.data(), routing.weights.data(), first,
                     gate_up.packed(), down.packed(), with_shared ? shared.data() : nullptr, out.data(),
                     scratch.data(), threads);
    REQUIRE(std::count(scratch.end() - guard, scratch.end(), std::byte{0xff}) == guard);
    REQUIRE(std::count_if(out.end() - 64, out.end(), [](BF16 v) { return v.bits == bf16_nan().bits; }) == 64);
    out.resize(out.size() - 64);
    return out;
  }

  std::vector<double> expected(const Routing& routing, bool with_shared) const {
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
        const auto inner = swiglu(reference::linear(1, 2 * ffn, hidden, token, gate_up.values(e)));
        const auto y = reference::linear(1, hidden, ffn, inner, down.values(e));
        for (std::size_t j = 0; j < sum.size(); ++j)
          sum[j] += static_cast<double>(routing.weights[choice]) * y[j];
      }
      out.insert(out.end(), sum.begin(), sum.end());
    }
    return out;
  }
};

}  // namespace

TEST_CASE("moe_experts against plain loops") {
  const Isa isa = GENERATE(from_range(available_isas()));
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const int threads = GENERATE(1, 2, 3);
  const std::int64_t batch = GENERATE(1, 2, 5, 40);
  const bool with_shared = GENERATE(false, true);
  CAPTURE(name(isa), name(dtype), threads, batch, with_shared);
  const IsaScope scope(isa);
  const std::int64_t experts = 9;
  Problem p(batch, 50, 37, 2, 5, dtype);  // experts 2 to 6 are here
  const Routing routing(batch, p.top_k, experts, 8);
  const auto expected = p.expected(routing, with_shared);

  // Experts that nobody chose must not be read.
  for (std::int32_t e = 0; e < p.local; ++e) {
    if (std::count(routing.ids.begin(), routing.ids.end(), e + p.first) != 0) continue;
    p.gate_up.poison(e);
    p.down.poison(e);
  }
  const auto out = p.run(routing, with_shared, threads);
  // gate, up, their product and the result are each rounded to bf16 (2^-9 root mean square at most, 2^-8 at
  // worst); the first three average out over ffn.
  CHECK(relative_error(out, expected) < 4 * 0x1p-9);
  CHECK(std::equal(out.begin(), out.end(), p.run(routing, with_shared, 1).begin(),
                   [](BF16 a, BF16 b) { return a.bits == b.bits; }));
}

TEST_CASE("a token whose experts are all elsewhere gets nothing but the shared part") {
  Problem p(2, 33, 16, 3, 2, DType::bf16);  // experts 3 and 4
  Routing routing(2, p.top_k, 3, 1);        // chosen: 0 to 2
  for (std::int64_t e = 0; e < p.local; ++e) {
    p.gate_up.poison(e);
    p.down.poison(e);
  }
  for (const int threads : {1, 2}) {
    CHECK(first_difference(p.run(routing, false, threads), std::vector<double>(66, 0.0), 0.0) == "");
    CHECK(first_difference(p.run(routing, true, threads), p.shared, 0.0) == "");
  }
}
