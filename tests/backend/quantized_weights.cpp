// Products with fp8 and, where the device has them, NVFP4 weights, on a GPU by few rows (widened in
// registers) and by many (the matrix library's narrow products of terms): what differs from the exact product
// of the stored weights is rounding alone.
#include <catch2/catch.hpp>
#include <cmath>

#include "backend/synthetic_weights.hpp"
#include "kernels/reference/linear.hpp"
#include "roofline/base/error.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

/// Rows of x; with more, a GPU multiplies terms.
constexpr std::int64_t few = 32;

std::vector<DType> quantized_types() {
  std::vector<DType> types = weight_types();
  std::erase(types, DType::bf16);
  return types;
}

/// What the weights hold, times their scale.
std::vector<double> held(const std::vector<WeightSlice>& slices, DType dtype, float scale) {
  auto values = stacked_values(slices, dtype);
  for (double& v : values) v *= static_cast<double>(scale);
  return values;
}

/// Matrices of stacked slices, between memory full of NaN.
struct Weights {
  PackedWeight packed;
  std::unique_ptr<Buffer> memory;

  Weights(const std::vector<std::vector<WeightSlice>>& matrices, DType dtype, float scale) {
    packed = {.k = matrices.front().front().cols,
              .count = static_cast<std::int64_t>(matrices.size()),
              .dtype = dtype,
              .scale = scale};
    for (const WeightSlice& s : matrices.front()) packed.n += s.rows;
    packed.stride_bytes = device().packed_bytes(packed.n, packed.k, dtype);
    REQUIRE(packed.stride_bytes % 64 == 0);
    const std::size_t bytes = (matrices.size() + 2) * packed.stride_bytes;
    memory = device().allocate(bytes);
    device().set_bytes(memory->data(), 0xff, bytes);
    packed.data = memory->data() + packed.stride_bytes;
    for (std::size_t i = 0; i < matrices.size(); ++i)
      device().fill_weight(packed, static_cast<std::int64_t>(i), matrices[i]);
  }
};

/// Slices that meet inside of a block's outputs, of several scales and from far into their tensors.
std::vector<WeightSlice> stacked(std::int64_t k) {
  return {{11, 0, 0, 3, k, 0.25f}, {12, 5'000'000'000, 16, 45, k, 0.0371f}, {13, 9, 4096, 101, k, 0.5f}};
}

/// x [m, k] out of rows ldx apart times W^T, as rows ldy apart with NaN between them.
std::vector<double> exact(std::int64_t m, const std::vector<BF16>& x, std::int64_t ldx,
                          const std::vector<double>& w, std::int64_t n, std::int64_t k, std::int64_t ldy) {
  std::vector<double> dense, expected(static_cast<std::size_t>(m * ldy), std::nan(""));
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < k; ++j) dense.push_back(as_double(x[static_cast<std::size_t>(i * ldx + j)]));
  const auto y = reference::linear(m, n, k, dense, w);
  for (std::int64_t i = 0; i < m; ++i) std::copy_n(y.begin() + i * n, n, expected.begin() + i * ldy);
  return expected;
}

}  // namespace

TEST_CASE("backend: linear with quantised weights, by few rows and by many") {
  const DType dtype = GENERATE(from_range(quantized_types()));
  const std::int64_t k = GENERATE(1, 31, 64, 200, 1352), m = GENERATE(1, 8, 9, 32, 33, 150);
  // 8: rows of whole 16 bytes; more are long under emulation.
  const std::int64_t gap = GENERATE(3, 8);
  if ((k == 1352 && m > 9) || (m == 150 && k != 31) || (gap == 8 && (m > 8 || k == 31))) return;
  CAPTURE(name(dtype), k, m, gap);
  const std::int64_t n = 149, ldx = k + gap, ldy = n + 5;
  const float scale = 0x1p-3f;
  const Weights w({stacked(k)}, dtype, scale);
  const auto x = random_bf16(static_cast<std::size_t>(m * ldx), 3);
  const auto expected = exact(m, x, ldx, held(stacked(k), dtype, scale), n, k, ldy);

  on_every_path([&] {
    const DeviceVector<BF16> in(x), out(expected.size(), bf16_nan());
    const DeviceVector<float> out_fp32(expected.size(), NAN);
    device().linear(m, in.data(), ldx, w.packed, out.data(), ldy);
    device().linear(m, in.data(), ldx, w.packed, out_fp32.data(), ldy);
    // fp32 sums of k products of values below 5 and 1/16, in any order; twice for two terms.
    const double sums = static_cast<double>(k) * 2 * 0x1p-22;
    if (dtype == DType::fp8 || m <= few) {
      CHECK(first_difference(out_fp32.values(), expected, 0x1p-22, sums) == "");
      CHECK(first_difference(out.values(), expected, 0x1.01p-8, sums) == "");
    } else {
      // quantized_linear.hpp: 3e-4 of the blocks' largest, which is 2 to 3 deviations of x.
      CHECK(relative_error(out_fp32.values(), expected) < 1e-3);
      CHECK(relative_error(out.values(), expected) < 1e-3 + 0x1p-9);
    }
  });
}

TEST_CASE("backend: a value that is not finite shows in its row alone, also with quantised weights") {
  const DType dtype = GENERATE(from_range(quantized_types()));
  const std::int64_t m = GENERATE(5, 33), k = 64, n = 149;
  const float value = GENERATE(NAN, INFINITY);
  const Weights w({stacked(k)}, dtype, 1.0f);
  auto x = random_bf16(static_cast<std::size_t>(m * k), 3);
  const DeviceVector<BF16> clean(x);
  x[static_cast<std::size_t>(2 * k + 17)] = to_bf16(value);
  const DeviceVector<BF16> in(x);
  const DeviceVector<float> expected(static_cast<std::size_t>(m * n), NAN),
      out(static_cast<std::size_t>(m * n), 0.0f);
  device().linear(m, clean.data(), k, w.packed, expected.data(), n);
  device().linear(m, in.data(), k, w.packed, out.data(), n);
  const auto got = out.values(), without = expected.values();
  for (std::int64_t i = 0; i < m * n; ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (i / n == 2) {
      CHECK(!std::isfinite(got[at]));
    } else {
      CHECK(got[at] == without[at]);
    }
  }
}

TEST_CASE("backend: one quantised matrix for each head") {
  const DType dtype = GENERATE(from_range(quantized_types()));
  const std::int64_t batch = GENERATE(3, 40), heads = 3, n = 40, k = 48;
  const std::int64_t x_head = k + 8, ldx = heads * x_head, ldy = heads * n;
  std::vector<std::vector<WeightSlice>> matrices;
  for (std::int64_t h = 0; h < heads; ++h)
    matrices.push_back({{static_cast<std::uint64_t>(30 + h), 0, 0, n, k, 0.25f}});
  const Weights w(matrices, dtype, 2.0f);
  const auto x = random_bf16(static_cast<std::size_t>(batch * ldx), 3);
  std::vector<double> expected(static_cast<std::size_t>(batch * ldy));
  for (std::int64_t h = 0; h < heads; ++h) {
    const std::vector<BF16> of_head(x.begin() + h * x_head, x.end());
    const auto y =
        exact(batch, of_head, ldx, held(matrices[static_cast<std::size_t>(h)], dtype, 2.0f), n, k, n);
    for (std::int64_t b = 0; b < batch; ++b)
      std::copy_n(y.begin() + b * n, n, expected.begin() + b * ldy + h * n);
  }
  const DeviceVector<BF16> in(x), out(expected.size(), bf16_nan());
  device().linear_per_head(batch, {in.data(), ldx, x_head}, w.packed, {out.data(), ldy, n});
  CHECK(first_difference(out.values(), expected, 0x1.01p-8, 0x1p-14) == "");
}

TEST_CASE("backend: products with quantised weights do not depend on the order of blocks and threads") {
  const DType dtype = GENERATE(from_range(quantized_types()));
  const std::int64_t m = GENERATE(9, 33), k = 200, n = 149;
  const Weights w({stacked(k)}, dtype, 1.0f);
  const DeviceVector<BF16> in(random_bf16(static_cast<std::size_t>(m * k), 3));
  const DeviceVector<float> out(static_cast<std::size_t>(m * n), NAN);
  device().linear(m, in.data(), k, w.packed, out.data(), n);
  const auto first = bits_of(out.values());
  in_every_order_of_threads([&] {
    device().linear(m, in.data(), k, w.packed, out.data(), n);
    CHECK(bits_of(out.values()) == first);
  });
}

TEST_CASE("backend: NVFP4 weights are not cut inside of a block") {
  if (std::ranges::count(weight_types(), DType::nvfp4) == 0) return;
  const WeightSlice slice{1, 0, 8, 1, 16, 1.0f};
  const std::size_t bytes = device().packed_bytes(1, 16, DType::nvfp4);
  const auto memory = device().allocate(bytes);
  const PackedWeight w{memory->data(), 1, 16, 1, bytes, DType::nvfp4};
  CHECK_THROWS_AS(device().fill_weight(w, 0, {&slice, 1}), UsageError);
}
