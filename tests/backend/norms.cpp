#include <catch2/catch.hpp>
#include <cmath>

#include "backend/add_norm.hpp"
#include "backend/device_under_test.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<BF16>& gain, double eps) {
  double squares = 0.0;
  for (const double v : x) squares += v * v;
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i)
    y.push_back(x[i] / std::sqrt(squares / static_cast<double>(x.size()) + eps) * as_double(gain[i]));
  return y;
}

}  // namespace

TEST_CASE("backend: add_rms_norm adds, replaces or leaves the residual, for any width") {
  check_add_norm(&DecodeOps::add_rms_norm, GENERATE(1, 7, 64, 2048, 16387), 0.0f, 1e-6,
                 [](std::vector<double>& x, const auto& gain) { x = rms_norm(x, gain, 1e-5); });
}

TEST_CASE("backend: add_rms_norm of a zero row is zero and a NaN stays visible in its own row") {
  check_rows_apart(&DecodeOps::add_rms_norm, GENERATE(37, 40), 0.0f);
}

TEST_CASE("backend: rms_norm_heads norms each head in place and touches nothing between them") {
  const std::int64_t batch = 3, heads = 5, row_stride = 1000;
  const std::int64_t cols = GENERATE(1, 64, 67, 128);
  const std::int64_t head_stride = cols + 3;
  const auto gain = random_bf16(static_cast<std::size_t>(cols), 4);
  const auto before = random_bf16(static_cast<std::size_t>(batch * row_stride), 5);
  std::vector<double> expected;
  for (const BF16 v : before) expected.push_back(as_double(v));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto head = expected.begin() + b * row_stride + h * head_stride;
      const auto normed = rms_norm({head, head + cols}, gain, 1e-6);
      std::copy(normed.begin(), normed.end(), head);
    }
  }
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> x(before), gain_in(gain);
    device().rms_norm_heads(batch, heads, cols, gain_in.data(), 1e-6f, {x.data(), row_stride, head_stride});
    CHECK(first_difference(x.values(), expected, kBf16, 1e-6) == "");
  });
}

TEST_CASE("backend: parts of a vector are normed by the squares of all parts, wherever those lie") {
  const std::int64_t batch = 3, parts = 3, ld = 400, stride = 2 * batch + 1;
  const std::int64_t cols = GENERATE(1, 64, 131);
  const auto width = static_cast<std::size_t>(cols);
  const auto gain = random_bf16(width, 4);
  std::vector<std::vector<BF16>> x;
  for (unsigned p = 0; p < 3; ++p) x.push_back(random_bf16(static_cast<std::size_t>(batch * ld), 5 + p));
  std::vector<double> expected;
  for (const BF16 v : x[1]) expected.push_back(as_double(v));
  for (std::int64_t b = 0; b < batch; ++b) {
    double squares = 0.0;
    for (const auto& part : x) {
      for (std::int64_t i = 0; i < cols; ++i) {
        const double value = as_double(part[static_cast<std::size_t>(b * ld + i)]);
        squares += value * value;
      }
    }
    const double rms = std::sqrt(squares / static_cast<double>(parts * cols) + 1e-6);
    for (std::size_t i = 0; i < width; ++i)
      expected[static_cast<std::size_t>(b * ld) + i] *= as_double(gain[i]) / rms;
  }
  in_every_order_of_threads([&] {
    const DeviceVector<float> sums(static_cast<std::size_t>(parts * stride), NAN);
    for (std::int64_t p = 0; p < parts; ++p) {
      const DeviceVector<BF16> part(x[static_cast<std::size_t>(p)]);
      device().square_sums(batch, cols, part.data(), ld, sums.data() + p * stride);
    }
    const DeviceVector<BF16> mine(x[1]), gain_in(gain);
    device().rms_norm_part(batch, cols, gain_in.data(), 1e-6f,
                           {.sums = sums.data(), .parts = parts, .stride = stride, .values = parts * cols},
                           mine.data(), ld);
    CHECK(first_difference(mine.values(), expected, kBf16, 1e-6) == "");
  });
}
