#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/cpu/small_ops.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

/// One rounding to bf16 (8 significant bits: 2^-8) after fp32 arithmetic (far less).
constexpr double kBf16 = 0x1.01p-8;

std::vector<double> rms_norm(const std::vector<double>& x, const std::vector<BF16>& gain, double eps) {
  double squares = 0.0;
  for (const double v : x) squares += v * v;
  std::vector<double> y;
  for (std::size_t i = 0; i < x.size(); ++i) {
    y.push_back(x[i] / std::sqrt(squares / static_cast<double>(x.size()) + eps) * as_double(gain[i]));
  }
  return y;
}

}  // namespace

TEST_CASE("add_rms_norm adds, replaces or leaves the residual, for any width") {
  const std::int64_t rows = 3;
  const std::int64_t cols = GENERATE(1, 7, 64, 2048, 16387);
  const int threads = GENERATE(1, 2);
  const auto count = static_cast<std::size_t>(rows * cols);
  const auto delta = random_bf16(count, 1), gain = random_bf16(static_cast<std::size_t>(cols), 2);
  const auto before = random_floats(count, 3);

  enum Mode { add, replace, leave };
  const Mode mode = GENERATE(add, replace, leave);
  std::vector<float> residual = before;
  if (mode == replace) residual.assign(count, NAN);  // what was there must not matter
  std::vector<BF16> out(count + 8, bf16_nan());
  cpu::add_rms_norm(rows, cols, mode == leave ? nullptr : delta.data(), mode == replace, residual.data(),
                    gain.data(), 1e-5f, out.data(), threads);

  for (std::int64_t r = 0; r < rows; ++r) {
    std::vector<double> x;
    for (std::int64_t i = r * cols; i < (r + 1) * cols; ++i) {
      const auto at = static_cast<std::size_t>(i);
      x.push_back((mode == replace ? 0.0 : as_double(before[at])) +
                  (mode == leave ? 0.0 : as_double(delta[at])));
    }
    const std::vector<float> residual_row(residual.begin() + r * cols, residual.begin() + (r + 1) * cols);
    const std::vector<BF16> out_row(out.begin() + r * cols, out.begin() + (r + 1) * cols);
    CHECK(first_difference(residual_row, x, 0x1p-23, 1e-7) == "");
    CHECK(first_difference(out_row, rms_norm(x, gain, 1e-5), kBf16, 1e-6) == "");
  }
  for (std::size_t i = count; i < out.size(); ++i) CHECK(out[i].bits == bf16_nan().bits);
}

TEST_CASE("add_rms_norm of a zero row is zero and a NaN stays visible in its own row") {
  const std::int64_t cols = 37;
  std::vector<float> residual(2 * cols, 0.0f);
  residual[cols + 5] = NAN;
  const std::vector<BF16> gain(cols, to_bf16(1.0f));
  std::vector<BF16> out(2 * cols, bf16_nan());
  cpu::add_rms_norm(2, cols, nullptr, false, residual.data(), gain.data(), 1e-5f, out.data(), 1);
  for (std::int64_t i = 0; i < cols; ++i) {
    CHECK(to_float(out[static_cast<std::size_t>(i)]) == 0.0f);
    CHECK(std::isnan(to_float(out[static_cast<std::size_t>(cols + i)])));
  }
}

TEST_CASE("rms_norm_heads norms each head in place and touches nothing between them") {
  const std::int64_t batch = 3, heads = 5, row_stride = 1000;
  const std::int64_t cols = GENERATE(1, 64, 67, 128);
  const std::int64_t head_stride = cols + 3;
  const auto gain = random_bf16(static_cast<std::size_t>(cols), 4);
  const auto before = random_bf16(static_cast<std::size_t>(batch * row_stride), 5);
  std::vector<BF16> x = before;
  std::vector<double> expected;
  for (const BF16 v : before) expected.push_back(as_double(v));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      const auto head = expected.begin() + b * row_stride + h * head_stride;
      const auto normed = rms_norm({head, head + cols}, gain, 1e-6);
      std::copy(normed.begin(), normed.end(), head);
    }
  }
  cpu::rms_norm_heads(batch, heads, cols, row_stride, head_stride, gain.data(), 1e-6f, x.data(), 2);
  CHECK(first_difference(x, expected, kBf16, 1e-6) == "");
}
