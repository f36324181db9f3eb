#include <catch2/catch.hpp>
#include <cmath>

#include "backend/add_norm.hpp"
#include "backend/device_under_test.hpp"
#include "kernels/reference/math.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

std::vector<BF16> part_of(const std::vector<BF16>& x, std::int64_t begin, std::int64_t count) {
  return {x.begin() + begin, x.begin() + begin + count};
}

}  // namespace

TEST_CASE("backend: add_layer_norm adds, replaces or leaves the residual, for any width and mean") {
  const std::int64_t cols = GENERATE(1, 7, 64, 2048, 16387);
  const float mean = GENERATE(0.0f, 4.0f);
  // The mean's own error, of sums in at least 16 parts, beside values of a deviation of half and more.
  const double error = static_cast<double>(cols / 16 + 16) * 0x1p-24 * (2 * mean + 1) * 4;
  check_add_norm(&DecodeOps::add_layer_norm, cols, mean, error,
                 [](reference::Vector& x, const auto& gain) { reference::layer_norm(x, gain, {}, 1e-5); });
}

TEST_CASE("backend: add_layer_norm of a constant row is zero and a NaN stays visible in its own row") {
  check_rows_apart(&DecodeOps::add_layer_norm, GENERATE(37, 40), 0.5f);
}

TEST_CASE(
    "backend: layer_norm_heads norms each head in place by its own gains and touches nothing between them") {
  const std::int64_t batch = 3, heads = GENERATE(1, 5), row_stride = 1000;
  const std::int64_t cols = GENERATE(1, 64, 67, 128);
  const bool biased = GENERATE(false, true);
  const std::int64_t head_stride = cols + 3;
  const auto gain = random_bf16(static_cast<std::size_t>(heads * cols), 4),
             bias = random_bf16(static_cast<std::size_t>(heads * cols), 6);
  const auto before = random_bf16(static_cast<std::size_t>(batch * row_stride), 5);
  std::vector<double> expected;
  for (const BF16 v : before) expected.push_back(as_double(v));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto head = expected.begin() + b * row_stride + h * head_stride;
      reference::layer_norm({head, head + cols}, part_of(gain, h * cols, cols),
                            biased ? part_of(bias, h * cols, cols) : std::vector<BF16>{}, 1e-6);
    }
  }
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> x(before), gain_in(gain), bias_in(bias);
    device().layer_norm_heads(batch, heads, cols, gain_in.data(), biased ? bias_in.data() : nullptr, 1e-6f,
                              {x.data(), row_stride, head_stride});
    // One rounding to bf16, and fp32 terms of up to 3 that may cancel.
    CHECK(first_difference(x.values(), expected, kBf16, 1e-5) == "");
  });
}

TEST_CASE("backend: add sums as many values as it is told, and no more") {
  const auto count = static_cast<std::size_t>(GENERATE(1, 255, 256, 2051));
  const auto x = random_bf16(count, 1), before = random_bf16(count + 8, 2);
  std::vector<double> expected;
  for (std::size_t i = 0; i < before.size(); ++i)
    expected.push_back(as_double(before[i]) + (i < count ? as_double(x[i]) : 0.0));
  const DeviceVector<BF16> x_in(x), y(before);
  device().add(static_cast<std::int64_t>(count), x_in.data(), y.data());
  CHECK(first_difference(y.values(), expected, kBf16, 1e-7) == "");
}
