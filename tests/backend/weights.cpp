#include <catch2/catch.hpp>
#include <cmath>

#include "backend/device_under_test.hpp"
#include "kernels/reference/linear.hpp"
#include "kernels/synthetic.hpp"
#include "roofline/error.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

BF16 slice_value(const WeightSlice& s, std::int64_t row, std::int64_t col) {
  return to_bf16(s.scale * synthetic::unit_value(synthetic::row_key(s.key, s.row0 + row),
                                                 static_cast<std::uint32_t>(s.col0 + col)));
}

/// Row `row` of slices that are stacked.
std::vector<double> stacked_row(const std::vector<WeightSlice>& slices, std::int64_t row) {
  for (const WeightSlice& s : slices) {
    if (row < s.rows) {
      std::vector<double> values;
      for (std::int64_t col = 0; col < s.cols; ++col) values.push_back(as_double(slice_value(s, row, col)));
      return values;
    }
    row -= s.rows;
  }
  return {};
}

}  // namespace

TEST_CASE("backend: a row-major matrix holds the synthetic values and nothing past its end") {
  const std::int64_t cols = GENERATE(1, 2, 15, 31, 32, 33, 129, 4096);
  const WeightSlice slice{21, 3'000'000'000, 6, 7, cols, 0.3f};
  const auto count = static_cast<std::size_t>(slice.rows * cols);
  const DeviceVector<BF16> out(count + 64, bf16_nan());
  device().fill_matrix(out.data(), slice);
  std::vector<BF16> expected;
  for (std::int64_t row = 0; row < slice.rows; ++row)
    for (std::int64_t col = 0; col < cols; ++col) expected.push_back(slice_value(slice, row, col));
  expected.resize(count + 64, bf16_nan());
  CHECK(first_difference(out.values(), expected, 0.0) == "");
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
  std::vector<double> dense, weights, expected(static_cast<std::size_t>(m * ldy), std::nan(""));
  for (std::int64_t row = 0; row < n; ++row) {
    const auto values = stacked_row(slices, row);
    weights.insert(weights.end(), values.begin(), values.end());
  }
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t j = 0; j < k; ++j) dense.push_back(as_double(x[static_cast<std::size_t>(i * ldx + j)]));
  const auto y = reference::linear(m, n, k, dense, weights);
  for (std::int64_t i = 0; i < m; ++i) std::copy_n(y.begin() + i * n, n, expected.begin() + i * ldy);

  const DeviceVector<BF16> in(x), out(expected.size(), bf16_nan());
  const DeviceVector<float> out_fp32(expected.size(), NAN);
  device().linear(m, in.data(), ldx, w, out.data(), ldy);
  device().linear(m, in.data(), ldx, w, out_fp32.data(), ldy);
  // fp32 sums of k products of values below 4 and 0.5, in any order.
  const double sums = static_cast<double>(k) * 2 * 0x1p-22;
  CHECK(first_difference(out.values(), expected, 0x1.01p-8, sums) == "");
  CHECK(first_difference(out_fp32.values(), expected, 0x1p-22, sums) == "");
}

TEST_CASE("backend: one matrix for each head, heads interleaved in the rows") {
  const std::int64_t batch = 3, heads = 4, n = 40, k = 24;
  const std::int64_t x_head = k + 8, ldx = heads * x_head, y_head = n, ldy = heads * n;
  const std::size_t bytes = device().packed_bytes(n, k, DType::bf16);
  const auto memory = device().allocate(static_cast<std::size_t>(heads) * bytes);
  const PackedWeight w{.data = memory->data(), .n = n, .k = k, .count = heads, .stride_bytes = bytes};
  std::vector<std::vector<double>> weights(static_cast<std::size_t>(heads));
  for (std::int64_t h = 0; h < heads; ++h) {
    const WeightSlice slice{static_cast<std::uint64_t>(30 + h), 0, 0, n, k, 0.25f};
    device().fill_weight(w, h, {&slice, 1});
    for (std::int64_t row = 0; row < n; ++row) {
      const auto values = stacked_row({slice}, row);
      auto& all = weights[static_cast<std::size_t>(h)];
      all.insert(all.end(), values.begin(), values.end());
    }
  }
  const auto x = random_bf16(static_cast<std::size_t>(batch * ldx), 3);
  std::vector<double> expected;
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      std::vector<double> row;
      for (std::int64_t i = 0; i < k; ++i)
        row.push_back(as_double(x[static_cast<std::size_t>(b * ldx + h * x_head + i)]));
      const auto y = reference::linear(1, n, k, row, weights[static_cast<std::size_t>(h)]);
      expected.insert(expected.end(), y.begin(), y.end());
    }
  }
  const DeviceVector<BF16> in(x), out(expected.size(), bf16_nan());
  device().linear_per_head(batch, in.data(), ldx, x_head, w, out.data(), ldy, y_head);
  CHECK(first_difference(out.values(), expected, 0x1.01p-8, 0x1p-15) == "");
}

TEST_CASE("backend: weights of a type without kernels are refused") {
  CHECK_THROWS_AS(device().packed_bytes(32, 32, DType::fp4), UsageError);
}
