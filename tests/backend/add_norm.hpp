// What add_rms_norm and add_layer_norm must do alike: add to the residual stream, and norm it.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "backend/device_under_test.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

namespace helix::testing {

using AddNorm = void (DecodeOps::*)(std::int64_t, std::int64_t, const BF16*, bool, float*, const BF16*, float,
                                    BF16*);

/// `norm(x, gain)` norms a row in fp64 with an epsilon of 1e-5. `mean` is added to all values; `error`: of fp32.
template <typename Norm>
void check_add_norm(AddNorm op, std::int64_t cols, float mean, double error, const Norm& norm) {
  const std::int64_t rows = 3;
  const auto count = static_cast<std::size_t>(rows * cols);
  auto delta = random_bf16(count, 1);
  const auto gain = random_bf16(static_cast<std::size_t>(cols), 2);
  auto before = random_floats(count, 3);
  for (float& x : before) x += mean;
  for (BF16& x : delta) x = to_bf16(to_float(x) + mean);
  enum Mode { add, replace, leave };
  for (const Mode mode : {add, replace, leave}) {
    CAPTURE(cols, mean, mode);
    std::vector<double> expected_residual, expected;
    for (std::int64_t r = 0; r < rows; ++r) {
      std::vector<double> x;
      for (auto i = static_cast<std::size_t>(r * cols); i < static_cast<std::size_t>((r + 1) * cols); ++i) {
        x.push_back((mode == replace ? 0.0 : as_double(before[i])) +
                    (mode == leave ? 0.0 : as_double(delta[i])));
      }
      expected_residual.insert(expected_residual.end(), x.begin(), x.end());
      norm(x, gain);
      expected.insert(expected.end(), x.begin(), x.end());
    }
    expected.resize(count + 8, std::nan(""));
    in_every_order_of_threads([&] {
      // What was there must not matter to `replace`.
      const DeviceVector<float> residual(mode == replace ? std::vector<float>(count, NAN) : before);
      const DeviceVector<BF16> delta_in(delta), gain_in(gain), out(count + 8, bf16_nan());
      (device().*op)(rows, cols, mode == leave ? nullptr : delta_in.data(), mode == replace, residual.data(),
                     gain_in.data(), 1e-5f, out.data());
      CHECK(first_difference(residual.values(), expected_residual, 0x1p-23, 1e-7) == "");
      CHECK(first_difference(out.values(), expected, kBf16, error) == "");
    });
  }
}

/// A row of values whose norm is zero, and one with a NaN, which stays in it.
inline void check_rows_apart(AddNorm op, std::int64_t cols, float value) {
  const auto width = static_cast<std::size_t>(cols);
  std::vector<float> x(2 * width, value);
  x[width + 5] = NAN;
  const DeviceVector<float> residual(x);
  const DeviceVector<BF16> gain(width, to_bf16(1.0f)), out(2 * width, bf16_nan());
  (device().*op)(2, cols, nullptr, false, residual.data(), gain.data(), 1e-5f, out.data());
  std::vector<double> expected(2 * width, 0.0);
  std::fill(expected.begin() + cols, expected.end(), std::nan(""));
  CHECK(first_difference(out.values(), expected, 0.0) == "");
}

}  // namespace helix::testing
