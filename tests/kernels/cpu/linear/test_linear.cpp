#include <catch2/catch.hpp>

#include "backend/synthetic_weights.hpp"
#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/linear/packing.hpp"
#include "kernels/ops/fp8.hpp"
#include "kernels/reference/linear.hpp"
#include "tests/compare.hpp"
#include "tests/kernels/cpu/isa_scope.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

BF16 nan_of(BF16) {
  return bf16_nan();
}
float nan_of(float) {
  return std::numeric_limits<float>::quiet_NaN();
}
bool same_bits(BF16 a, BF16 b) {
  return a.bits == b.bits;
}
bool same_bits(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

// m_max rows of activations with NaN between them, and what they give.
struct Problem {
  std::int64_t n, k, m_max, ldx, ldy;
  SyntheticWeights weights;
  std::vector<BF16> x;
  std::vector<double> expected;   // [m_max, n]
  std::vector<double> magnitude;  // sums of |x w|

  Problem(std::int64_t outputs, std::int64_t inputs, DType dtype, std::int64_t rows = 70)
      : n(outputs), k(inputs), m_max(rows), ldx(inputs + 3), ldy(outputs + 5), weights(n, k, 1, dtype, 77) {
    x.assign(static_cast<std::size_t>(m_max * ldx), bf16_nan());
    const auto values = random_bf16(static_cast<std::size_t>(m_max * k), 3);
    std::vector<double> dense, dense_abs, w = weights.values(0);
    for (std::int64_t i = 0; i < m_max * k; ++i) {
      const BF16 v = values[static_cast<std::size_t>(i)];
      x[static_cast<std::size_t>(i / k * ldx + i % k)] = v;
      dense.push_back(as_double(v));
      dense_abs.push_back(std::fabs(as_double(v)));
    }
    expected = reference::linear(m_max, n, k, dense, w);
    for (double& v : w) v = std::fabs(v);
    magnitude = reference::linear(m_max, n, k, dense_abs, w);
  }

  // One rounding to the output type, and k fp32 additions each off by at most 2^-24 of the sum of magnitudes
  // (doubled: AMX rounds the products too).
  template <class Out>
  std::string wrong(std::int64_t m, const std::vector<Out>& y) const {
    const double rounding = sizeof(Out) == sizeof(BF16) ? 0x1p-8 : 0x1p-24;
    for (std::int64_t row = 0; row < m_max; ++row) {
      for (std::int64_t j = 0; j < ldy; ++j) {
        const Out actual = y[static_cast<std::size_t>(row * ldy + j)];
        if (row >= m || j >= n) {
          if (!same_bits(actual, nan_of(actual))) return fmt::format("written outside: [{}, {}]", row, j);
          continue;
        }
        const auto i = static_cast<std::size_t>(row * n + j);
        const double sum_error = static_cast<double>(k) * 0x1p-23 * magnitude[i];
        const double tolerance = sum_error + rounding * (std::fabs(expected[i]) + sum_error);
        if (!(std::fabs(as_double(actual) - expected[i]) <= tolerance))
          return fmt::format("[{}, {}]: {}, expected {} +- {}", row, j, as_double(actual), expected[i],
                             tolerance);
      }
    }
    return {};
  }

  template <class Out>
  std::vector<Out> run(std::int64_t m, int threads) const {
    std::vector<Out> y(static_cast<std::size_t>(m_max * ldy), nan_of(Out{}));
    cpu::linear(m, x.data(), ldx, weights.packed(), y.data(), ldy, threads);
    return y;
  }

  // Where a product is wrong or depends on the number of threads, "" if nowhere. (No assertion for each:
  // there are a hundred thousand.)
  template <class Out>
  std::string wrong_anywhere(std::span<const std::int64_t> row_counts) const {
    for (const std::int64_t m : row_counts) {
      const std::vector<Out> one_thread = run<Out>(m, 1);
      const auto place = [&](int threads, const std::string& what) {
        return fmt::format("n {} k {} m {} threads {}: {}", n, k, m, threads, what);
      };
      if (const std::string what = wrong(m, one_thread); !what.empty()) return place(1, what);
      // Teams take long to assemble on a busy machine: not for every shape.
      if ((n != 33 && n != 65) || (k != 33 && k != 1000)) continue;
      for (const int threads : {2, 3}) {
        const std::vector<Out> y = run<Out>(m, threads);
        if (!std::equal(y.begin(), y.end(), one_thread.begin(), [](Out a, Out b) { return same_bits(a, b); }))
          return place(threads, "differs from one thread");
      }
    }
    return {};
  }
};

}  // namespace

TEST_CASE("linear over odd shapes, instruction sets and threads") {
  constexpr std::array<std::int64_t, 13> sizes{1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 65, 127, 1000};
  constexpr std::array<std::int64_t, 15> row_counts{1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 31, 32, 33, 64, 70};
  const std::span<const std::int64_t> all(row_counts);
  constexpr std::array<std::int64_t, 3> few{1, 7, 33};
  for (const std::int64_t n : sizes) {
    for (const std::int64_t k : sizes) {
      const bool large = n * k > 20'000;
      const Problem bf16(n, k, DType::bf16, large ? 34 : 70), fp8(n, k, DType::fp8, 34);
      for (const Isa isa : available_isas()) {
        const IsaScope scope(isa);
        INFO(name(isa));
        CHECK(bf16.wrong_anywhere<BF16>(large ? few : all) == "");
        CHECK(fp8.wrong_anywhere<BF16>(few) == "");
        if (!large) CHECK(bf16.wrong_anywhere<float>(few) == "");
      }
    }
  }
}

TEST_CASE("a NaN or infinite activation stays in its row") {
  const Isa isa = GENERATE(from_range(available_isas()));
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const std::int64_t m = GENERATE(2, 20, 40);
  CAPTURE(name(isa), m);
  const IsaScope scope(isa);
  const Problem p(40, 70, dtype);
  auto x = p.x;
  x[static_cast<std::size_t>(p.ldx + 69)] = bf16_nan();
  std::vector<float> y(static_cast<std::size_t>(m * p.n));
  cpu::linear(m, x.data(), p.ldx, p.weights.packed(), y.data(), p.n, 1);
  for (std::int64_t i = 0; i < m * p.n; ++i) {
    CAPTURE(i);
    CHECK(std::isnan(y[static_cast<std::size_t>(i)]) == (i / p.n == 1));
  }
  x[static_cast<std::size_t>(p.ldx + 69)] = to_bf16(std::numeric_limits<float>::infinity());
  cpu::linear(m, x.data(), p.ldx, p.weights.packed(), y.data(), p.n, 1);
  for (std::int64_t i = 0; i < m * p.n; ++i) {
    CAPTURE(i);
    CHECK(std::isfinite(y[static_cast<std::size_t>(i)]) == (i / p.n != 1));
  }
}

TEST_CASE("every fp8 weight is widened to its value") {
  const Isa isa = GENERATE(from_range(available_isas()));
  const IsaScope scope(isa);
  // Output o has the single weight o % 256 (all 256 bytes, on even and odd inputs); x = 1.
  const std::int64_t n = 256, k = 3, input = GENERATE(0, 1, 2);
  const std::size_t bytes = cpu::packed_bytes(n, k, DType::fp8);
  std::vector<std::byte> memory(bytes, std::byte{0});
  for (std::int64_t o = 0; o < n; ++o)
    memory[static_cast<std::size_t>(packing::index_in_matrix(o, input, k, DType::fp8))] =
        static_cast<std::byte>(o);
  const std::vector<BF16> x(3, to_bf16(1.0f));
  std::vector<float> y(static_cast<std::size_t>(n)), expected;
  cpu::linear(1, x.data(), k, {memory.data(), n, k, 1, bytes, DType::fp8}, y.data(), n, 1);
  for (int o = 0; o < 256; ++o) expected.push_back(to_float(FP8{static_cast<std::uint8_t>(o)}));
  CHECK(first_difference(y, expected, 0.0) == "");
}

TEST_CASE("a matrix's scale multiplies its products") {
  const Isa isa = GENERATE(from_range(available_isas()));
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const std::int64_t m = GENERATE(1, 3, 40);
  CAPTURE(name(isa), name(dtype), m);
  const IsaScope scope(isa);
  const Problem p(70, 95, dtype);
  std::vector<float> y(static_cast<std::size_t>(m * p.n)), scaled(y.size());
  PackedWeight w = p.weights.packed();
  cpu::linear(m, p.x.data(), p.ldx, w, y.data(), p.n, 1);
  constexpr float factor = 0x1p-9f;  // powers of two round nothing
  w.scale *= factor;
  cpu::linear(m, p.x.data(), p.ldx, w, scaled.data(), p.n, 1);
  for (float& v : y) v *= factor;
  CHECK(first_difference(scaled, y, 0.0) == "");
}

TEST_CASE("the kernels name what they run on") {
  for (const Isa isa : available_isas()) {
    const IsaScope scope(isa);
    CHECK(cpu::linear_kernel_path() == (isa == Isa::amx      ? "amx-bf16"
                                        : isa >= Isa::avx512 ? "avx512-bf16"
                                                             : highway_target_name()));
  }
}
