#include "kernels/state/rope.hpp"

#include <catch2/catch.hpp>
#include <cmath>

#include "backend/device_under_test.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

TEST_CASE("backend: rope turns every pair by its angle, into strides of its own or in place") {
  const bool interleaved = GENERATE(false, true);
  const std::int64_t dim = GENERATE(2, 6, 64, 300);
  const std::int64_t batch = 3, heads = 11, pairs = dim / 2;
  const std::int64_t head_stride = dim + 7, row_stride = heads * head_stride + 11;
  const std::int64_t out_head_stride = dim + 1, out_row_stride = heads * out_head_stride + 2;
  // The last one is where an fp32 angle would be wrong by 0.06 rad.
  const std::vector<std::int64_t> positions{0, 65535, 1'048'577};
  const auto inv_freq = inv_frequencies({.theta = 10000.0}, dim);
  const double amplitude = 1.25;
  const auto x = random_bf16(static_cast<std::size_t>(batch * row_stride), 1);

  std::vector<double> expected(static_cast<std::size_t>(batch * out_row_stride), std::nan(""));
  std::vector<double> in_place;
  for (const BF16 v : x) in_place.push_back(as_double(v));
  for (std::int64_t b = 0; b < batch; ++b) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < pairs; ++i) {
        const std::int64_t first = interleaved ? 2 * i : i, second = interleaved ? 2 * i + 1 : i + pairs;
        const auto in = static_cast<std::size_t>(b * row_stride + h * head_stride);
        const auto to = static_cast<std::size_t>(b * out_row_stride + h * out_head_stride);
        const auto f = static_cast<std::size_t>(first), s = static_cast<std::size_t>(second);
        const double angle = static_cast<double>(positions[static_cast<std::size_t>(b)]) *
                             as_double(inv_freq[static_cast<std::size_t>(i)]);
        const double u = as_double(x[in + f]), v = as_double(x[in + s]);
        in_place[in + f] = expected[to + f] = amplitude * (u * std::cos(angle) - v * std::sin(angle));
        in_place[in + s] = expected[to + s] = amplitude * (v * std::cos(angle) + u * std::sin(angle));
      }
    }
  }
  // One rounding to bf16, and fp32 products of values below 6 that may cancel.
  constexpr double relative = 0x1.01p-8, absolute = 6 * 0x1p-21;
  in_every_order_of_threads([&] {
    const DeviceVector<std::int64_t> at(positions);
    const DeviceVector<float> frequencies(inv_freq);
    const DeviceVector<BF16> in(x), out(expected.size(), bf16_nan());
    const RopeTable table{.inv_freq = frequencies.data(),
                          .rope_dim = dim,
                          .amplitude = static_cast<float>(amplitude),
                          .interleaved = interleaved};
    const HeadRows<BF16> in_rows{in.data(), row_stride, head_stride};
    device().rope(table, batch, heads, at.data(), in_rows, {out.data(), out_row_stride, out_head_stride});
    CHECK(first_difference(out.values(), expected, relative, absolute) == "");
    device().rope(table, batch, heads, at.data(), in_rows, in_rows);
    CHECK(first_difference(in.values(), in_place, relative, absolute) == "");
  });
}

TEST_CASE("backend: rope passes on what no pair of a head holds, all of it where there are none") {
  const std::int64_t dim = 70, rope_dim = GENERATE(0, 16, 70), batch = 2, heads = 3;
  const DeviceVector<float> inv_freq(inv_frequencies({.theta = 500000.0}, dim));
  const RopeTable table{.inv_freq = inv_freq.data(), .rope_dim = rope_dim, .passed = dim - rope_dim};
  const RopeTable alone{.inv_freq = inv_freq.data(), .rope_dim = rope_dim};
  const auto x = random_bf16(static_cast<std::size_t>(batch * heads * dim), 1);
  const DeviceVector<std::int64_t> at(std::vector<std::int64_t>{3, 1'000'000});
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> in(x), rotated(x), out(x.size(), bf16_nan());
    const HeadRows<BF16> rows{in.data(), heads * dim, dim}, in_place{rotated.data(), heads * dim, dim};
    device().rope(table, batch, heads, at.data(), rows, {out.data(), heads * dim, dim});
    device().rope(alone, batch, heads, at.data(), in_place, in_place);
    CHECK(first_difference(out.values(), rotated.values(), 0.0) == "");
    device().rope(table, batch, heads, at.data(), rows, rows);
    CHECK(first_difference(in.values(), rotated.values(), 0.0) == "");
  });
}

TEST_CASE("backend: rotated dot products depend on the distance of positions only") {
  const std::int64_t dim = 64;
  const DeviceVector<float> inv_freq(inv_frequencies({.theta = 500000.0}, dim));
  const bool interleaved = GENERATE(false, true);
  const RopeTable table{.inv_freq = inv_freq.data(), .rope_dim = dim, .interleaved = interleaved};
  const auto rotated = [&](std::int64_t position, unsigned seed) {
    const DeviceVector<std::int64_t> at(1, position);
    const DeviceVector<BF16> x(random_bf16(64, seed)), y(64, bf16_nan());
    device().rope(table, 1, 1, at.data(), {x.data(), dim, dim}, {y.data(), dim, dim});
    return y.values();
  };
  const auto dot = [&](std::int64_t q_position, std::int64_t k_position) {
    const auto q = rotated(q_position, 1), k = rotated(k_position, 2);
    double sum = 0.0;
    for (std::size_t i = 0; i < 64; ++i) sum += as_double(q[i]) * as_double(k[i]);
    return sum;
  };
  // 128 roundings of 2^-8, random: |q||k| = 64 times 2^-8 * sqrt(2 / 64), doubled for safety.
  CHECK(dot(1'000'100, 1'000'000) == Approx(dot(100, 0)).margin(2 * 64 * 0x1p-8 * std::sqrt(2.0 / 64)));
}
