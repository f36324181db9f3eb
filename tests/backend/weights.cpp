#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "backend/synthetic_weights.hpp"
#include "kernels/ops/rounding.hpp"
#include "kernels/reference/linear.hpp"
#include "roofline/base/error.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

TEST_CASE("backend: a row-major matrix holds the synthetic values and nothing past its end") {
  const std::int64_t cols = GENERATE(1, 2, 15, 31, 32, 33, 129, 4096);
  const WeightSlice slice{21, 3'000'000'000, 6, 7, cols, 0.3f};
  const auto count = static_cast<std::size_t>(slice.rows * cols);
  auto expected = stacked_values({&slice, 1}, DType::bf16);
  expected.resize(count + 64, std::nan(""));
  on_every_path([&] {
    in_every_order_of_threads([&] {
      const DeviceVector<BF16> out(count + 64, bf16_nan());
      device().fill_matrix(out.data(), slice);
      CHECK(first_difference(out.values(), expected, 0.0) == "");
    });
  });
}

TEST_CASE("backend: linear with stacked slices as weights, into bf16 and fp32") {
  const std::int64_t k = GENERATE(1, 31, 64, 200), m = GENERATE(1, 5, 33);
  const std::vector<WeightSlice> slices{{11, 0, 0, 3, k, 0.25f},
                                        {12, 5'000'000'000, 17, 45, k, 0.0371f},
                                        {13, 9, 4096, 1, k, 0.5f},
                                        {14, 2, 3, 20, k, 0.003f}};
  const std::int64_t n = 69, ldx = k + 3, ldy = n + 5;
  const std::size_t bytes = device().packed_bytes(n, k, DType::bf16);
  REQUIRE(bytes % 64 == 0);
  const auto memory = device().allocate(2 * bytes);
  device().set_bytes(memory->data(), 0xff, 2 * bytes);
  PackedWeight w{.data = memory->data(), .n = n, .k = k, .count = 2, .stride_bytes = bytes};
  device().fill_weight(w, 1, slices);  // the second of two
  w.data += bytes;
  w.count = 1;

  const auto x = random_bf16(static_cast<std::size_t>(m * ldx), 3);
  std::vector<double> dense, expected(static_cast<std::size_t>(m * ldy), std::nan(""));
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < k; ++j) dense.push_back(as_double(x[static_cast<std::size_t>(i * ldx + j)]));
  const auto y = reference::linear(m, n, k, dense, stacked_values(slices, DType::bf16));
  for (std::int64_t i = 0; i < m; ++i) std::copy_n(y.begin() + i * n, n, expected.begin() + i * ldy);

  on_every_path([&] {
    const DeviceVector<BF16> in(x), out(expected.size(), bf16_nan());
    const DeviceVector<float> out_fp32(expected.size(), NAN);
    device().linear(m, in.data(), ldx, w, out.data(), ldy);
    device().linear(m, in.data(), ldx, w, out_fp32.data(), ldy);
    // fp32 sums of k products of values below 4 and 0.5, in any order.
    const double sums = static_cast<double>(k) * 2 * 0x1p-22;
    CHECK(first_difference(out.values(), expected, 0x1.01p-8, sums) == "");
    CHECK(first_difference(out_fp32.values(), expected, 0x1p-22, sums) == "");
  });
}

TEST_CASE("backend: weights that are given piece by piece are rounded as the synthetic ones are") {
  const DType dtype = GENERATE(from_range(weight_types()));
  const std::int64_t k = GENERATE(1, 31, 64, 200), n = 69, m = 3;
  CAPTURE(name(dtype), k);
  // Large and small ones, zeros, and both signs of what fp8 holds as a subnormal.
  const WeightSlice slice{31, 5, 48, n, k, dtype == DType::bf16 ? 0.37f : 250.0f};
  std::vector<double> held = stacked_values({&slice, 1}, dtype);
  std::vector<float> values;
  const float scale = dtype == DType::bf16 ? 1.0f : 0x1p-9f;
  for (std::int64_t row = 0; row < n; ++row)
    for (std::int64_t col = 0; col < k; ++col)
      values.push_back(scale * slice.scale *
                       synthetic::unit_value(synthetic::row_key(slice.key, slice.row0 + row),
                                             static_cast<std::uint32_t>(slice.col0 + col)));
  for (double& v : held) v *= static_cast<double>(scale);

  const std::size_t bytes = device().packed_bytes(n, k, dtype);
  const auto memory = device().allocate(3 * bytes);
  device().set_bytes(memory->data(), 0xff, 3 * bytes);
  PackedWeight w{.data = memory->data(),
                 .n = n,
                 .k = k,
                 .count = 3,
                 .stride_bytes = bytes,
                 .dtype = dtype,
                 .scale = scale};
  for (const auto& [first, rows] : {std::pair<std::int64_t, std::int64_t>{0, 32}, {32, 32}, {64, 5}}) {
    const float* const piece = values.data() + first * k;
    std::vector<BF16> bf16(static_cast<std::size_t>(rows * k));
    std::vector<FP8> fp8(bf16.size());
    round_values(piece, rows * k, 1.0f, bf16.data());
    round_values(piece, rows * k, 1.0f / scale, fp8.data());
    const void* const given = dtype == DType::bf16  ? static_cast<const void*>(bf16.data())
                              : dtype == DType::fp8 ? static_cast<const void*>(fp8.data())
                                                    : piece;
    device().store_weight(w, 1, first, rows, given);
    std::ranges::fill(bf16, BF16{0x7fc0});  // its own by now
    std::ranges::fill(fp8, FP8{0x7f});
    device().synchronize();
  }
  w.data += bytes;
  w.count = 1;

  const auto x = random_bf16(static_cast<std::size_t>(m * k), 3);
  std::vector<double> dense;
  for (const BF16 v : x) dense.push_back(as_double(v));
  const auto expected = reference::linear(m, n, k, dense, held);
  on_every_path([&] {
    const DeviceVector<BF16> in(x);
    const DeviceVector<float> out(expected.size(), NAN);
    device().linear(m, in.data(), k, w, out.data(), n);
    // fp32 sums of k products of values below 4 and 0.5, in any order.
    CHECK(first_difference(out.values(), expected, 0x1p-22, static_cast<double>(k) * 2 * 0x1p-22) == "");
  });
}

TEST_CASE("backend: linear_per_head multiplies each head with its own matrix") {
  const std::int64_t batch = GENERATE(1, 3, 18), n = GENERATE(7, 40, 128), k = GENERATE(5, 24, 96);
  CAPTURE(batch, n, k);
  // Room between the heads, and none between the results.
  const std::int64_t heads = 5, x_head = k + 8, ldx = heads * x_head + 1, y_head = n == 40 ? n : n + 3,
                     ldy = heads * y_head + (n == 40 ? 0 : 4);
  const SyntheticWeights weights(n, k, heads, DType::bf16, 5);
  const auto x = random_bf16(static_cast<std::size_t>(batch * ldx), 9);
  std::vector<double> expected(static_cast<std::size_t>(batch * ldy), std::nan(""));
  for (std::int64_t h = 0; h < heads; ++h) {
    std::vector<double> x_of_head;
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t i = 0; i < k; ++i)
        x_of_head.push_back(as_double(x[static_cast<std::size_t>(b * ldx + h * x_head + i)]));
    const auto y = reference::linear(batch, n, k, x_of_head, weights.values(h));
    for (std::int64_t b = 0; b < batch; ++b)
      std::copy_n(y.begin() + b * n, n, expected.begin() + b * ldy + h * y_head);
  }
  on_every_path([&] {
    in_every_order_of_threads([&] {
      const DeviceVector<BF16> in(x), out(expected.size(), bf16_nan());
      device().linear_per_head(batch, {in.data(), ldx, x_head}, weights.packed(), {out.data(), ldy, y_head});
      // One rounding to bf16; sums of up to 96 products of magnitude ~1 in fp32.
      CHECK(first_difference(out.values(), expected, 0x1.01p-8, 96 * 0x1p-23 * 10) == "");
    });
  });
}

TEST_CASE("backend: weights of a type without kernels are refused") {
  CHECK_THROWS_AS(device().packed_bytes(32, 32, DType::fp4), UsageError);
}
