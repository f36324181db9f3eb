// Partial results of attention: packed for the ranks that own their heads, and merged there.
#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "backend/device_under_test.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// What each of `parts` peers sends to this rank: its partials of the same heads. What nobody wrote is NaN.
struct Received {
  PartialShape shape;
  std::vector<std::byte> bytes;

  explicit Received(const PartialShape& s)
      : shape(s), bytes(static_cast<std::size_t>(s.parts) * s.chunk_bytes(), std::byte{0xff}) {}

  std::size_t rows() const { return static_cast<std::size_t>(shape.batch * shape.heads); }
  BF16* o(std::size_t part) { return reinterpret_cast<BF16*>(bytes.data() + part * shape.chunk_bytes()); }
  float* lse(std::size_t part) {
    return reinterpret_cast<float*>(bytes.data() + part * shape.chunk_bytes() + shape.lse_offset());
  }
  std::vector<BF16> merge() const {
    const DeviceVector<std::byte> packed(bytes);
    const DeviceVector<BF16> out(rows() * static_cast<std::size_t>(shape.v_dim), bf16_nan());
    device().merge_partials(shape, packed.data(), out.data());
    return out.values();
  }
};

/// GPUs move whole 16 bytes of a row, and refuse other widths (tests/cuda).
bool runs(std::int64_t v_dim) {
  return device().name() == "cpu" || v_dim % 8 == 0;
}

}  // namespace

TEST_CASE("backend: partials travel to the part that owns their heads, LSE bit for bit") {
  const std::int64_t v_dim = GENERATE(33, 64);  // 33: lse_offset needs its padding
  if (!runs(v_dim)) return;
  const PartialShape shape{.parts = 3, .batch = 5, .heads = 7, .v_dim = v_dim};
  const std::int64_t all_heads = shape.parts * shape.heads;
  const auto o = random_bf16(static_cast<std::size_t>(shape.batch * all_heads * v_dim), 1);
  auto lse = random_floats(static_cast<std::size_t>(shape.batch * all_heads), 2, 10.0f);
  lse.at(0) = -kInf;
  lse.at(1) = std::bit_cast<float>(0x7fc12345u);  // a NaN's payload
  lse.at(2) = std::bit_cast<float>(0x00000001u);  // subnormal
  lse.at(3) = -0.0f;
  lse.at(17) = -kInf;
  in_every_order_of_threads([&] {
    // Rows without tokens stay unwritten, and must not be read.
    const DeviceVector<BF16> o_in(unwritten, o.size());
    const auto width = static_cast<std::size_t>(v_dim);
    for (std::size_t row = 0; row < lse.size(); ++row)
      if (lse[row] != -kInf) o_in.write(row * width, std::span(o).subspan(row * width, width));
    const DeviceVector<float> lse_in(lse);
    const DeviceVector<std::byte> out(3 * shape.chunk_bytes(), std::byte{0xff});
    device().pack_partials(shape, o_in.data(), lse_in.data(), out.data());

    Received packed(shape);
    packed.bytes = out.values();
    for (std::int64_t p = 0; p < shape.parts; ++p) {
      const auto part = static_cast<std::size_t>(p);
      std::vector<float> expected_lse;
      std::vector<BF16> expected, found;
      for (std::int64_t b = 0; b < shape.batch; ++b) {
        for (std::int64_t h = p * shape.heads; h < (p + 1) * shape.heads; ++h) {
          expected_lse.push_back(lse[static_cast<std::size_t>(b * all_heads + h)]);
          if (expected_lse.back() == -kInf) continue;
          const auto from = o.begin() + (b * all_heads + h) * v_dim;
          const BF16* to = packed.o(part) + (b * shape.heads + h - p * shape.heads) * v_dim;
          expected.insert(expected.end(), from, from + v_dim);
          found.insert(found.end(), to, to + v_dim);
        }
      }
      CHECK(bits_of(std::span(packed.lse(part), packed.rows())) == bits_of(expected_lse));
      CHECK(first_difference(found, expected, 0.0) == "");
    }
  });
}

TEST_CASE("backend: merging equals the fp64 formula, for any number of parts") {
  const std::int64_t parts = GENERATE(1, 2, 3, 7, 8, 13);
  const std::int64_t v_dim = GENERATE(1, 64, 127, 128, 512, 515);
  // All weights alike, and some that are nothing beside others; exp(500) overflows.
  const float spread = GENERATE(0.0f, 3.0f, 80.0f);
  if (!runs(v_dim)) return;
  Received in({.parts = parts, .batch = 3, .heads = 5, .v_dim = v_dim});
  const auto values = static_cast<std::size_t>(v_dim);
  for (std::size_t p = 0; p < static_cast<std::size_t>(parts); ++p) {
    const auto o = random_bf16(in.rows() * values, static_cast<unsigned>(10 + p));
    const auto lse = random_floats(in.rows(), static_cast<unsigned>(50 + p));
    std::copy(o.begin(), o.end(), in.o(p));
    for (std::size_t r = 0; r < in.rows(); ++r) in.lse(p)[r] = spread * lse[r] + 500.0f;
  }
  std::vector<double> expected(in.rows() * values, 0.0);
  for (std::size_t r = 0; r < in.rows(); ++r) {
    double sum = 0.0;
    for (std::size_t p = 0; p < static_cast<std::size_t>(parts); ++p) {
      const double w = std::exp(static_cast<double>(in.lse(p)[r]) - 500.0);
      sum += w;
      for (std::size_t d = 0; d < values; ++d)
        expected[r * values + d] += w * as_double(in.o(p)[r * values + d]);
    }
    for (std::size_t d = 0; d < values; ++d) expected[r * values + d] /= sum;
  }
  // 2^-8 is the rounding to bf16; LSE near 500 is itself a multiple of 2^-15, exactly what the formula gets
  // too. Terms of either sign cancel, so the fp32 error is absolute: of each part's weight, below 1, times
  // |o| < 6. The product of an LSE's difference below 400 with log2(e) is rounded, too.
  const double absolute = 13 * 6 * 0x1p-23 * (1 + spread);
  in_every_order_of_threads(
      [&] { CHECK(first_difference(in.merge(), expected, 0x1.01p-8, absolute) == ""); });
}

TEST_CASE("backend: merging shards equals attention over all tokens") {
  // One head, tokens split 5 + 0 + 2: each shard's O and LSE by definition.
  constexpr std::size_t width = 8;
  const std::vector<double> scores{0.3, -1.2, 2.5, 0.0, 1.1, 4.0, -0.7}, v{1, 2, -3, 4, 0.5, -1, 8};
  const std::vector<std::pair<std::size_t, std::size_t>> shards{{0, 5}, {5, 5}, {5, 7}};
  Received in({.parts = 3, .batch = 1, .heads = 1, .v_dim = width});
  const auto attend = [&](std::size_t begin, std::size_t end, double& lse) {
    double sum = 0.0, o = 0.0;
    for (std::size_t t = begin; t < end; ++t) {
      sum += std::exp(scores[t]);
      o += std::exp(scores[t]) * v[t];
    }
    lse = std::log(sum);
    return o / sum;
  };
  for (std::size_t p = 0; p < shards.size(); ++p) {
    double lse = 0.0;
    const double o = attend(shards[p].first, shards[p].second, lse);
    in.lse(p)[0] = static_cast<float>(lse);
    if (shards[p].first < shards[p].second) std::fill_n(in.o(p), width, to_bf16(static_cast<float>(o)));
  }
  REQUIRE(in.lse(1)[0] == -kInf);
  double lse = 0.0;
  const std::vector<double> whole(width, attend(0, 7, lse));
  CHECK(first_difference(in.merge(), whole, 0x1p-7) == "");  // O_p and O are rounded to bf16
}

TEST_CASE("backend: an empty shard is selected away although its O is NaN") {
  const std::int64_t v_dim = GENERATE(64, 65);
  if (!runs(v_dim)) return;
  Received in({.parts = 3, .batch = 2, .heads = 3, .v_dim = v_dim});
  const auto o = random_bf16(in.rows() * static_cast<std::size_t>(v_dim), 3);
  for (std::size_t r = 0; r < in.rows(); ++r) {
    in.lse(0)[r] = in.lse(2)[r] = -kInf;  // their O is 0xffff, a NaN
    in.lse(1)[r] = -1000.0f;              // exp(-1000) is 0 in fp32 and fp64
  }
  std::copy(o.begin(), o.end(), in.o(1));
  CHECK(first_difference(in.merge(), o, 0.0) == "");
}

TEST_CASE("backend: rows of one message that are empty in different shards") {
  Received in({.parts = 4, .batch = 2, .heads = 3, .v_dim = 8});
  for (std::size_t p = 0; p < 4; ++p) {
    for (std::size_t r = 0; r < in.rows(); ++r) {
      // Row 0 has parts 1 and 2, row 2 none, row 4 lacks part 1.
      const bool empty = (r == 0 && (p == 0 || p == 3)) || r == 2 || (r == 4 && p == 1);
      in.lse(p)[r] = empty ? -kInf : 0.0f;
      if (!empty) std::fill_n(in.o(p) + 8 * r, 8, to_bf16(static_cast<float>(1 << p)));
    }
  }
  std::vector<double> expected;
  for (const double mean : {3.0, 3.75, 0.0, 3.75, 13.0 / 3, 3.75}) expected.insert(expected.end(), 8, mean);
  CHECK(first_difference(in.merge(), expected, 0x1p-8) == "");
}

TEST_CASE("backend: all shards empty: zero") {
  const std::int64_t v_dim = GENERATE(5, 8);
  if (!runs(v_dim)) return;
  Received in({.parts = 2, .batch = 2, .heads = 3, .v_dim = v_dim});
  for (std::size_t p = 0; p < 2; ++p) std::fill_n(in.lse(p), in.rows(), -kInf);
  for (const BF16 v : in.merge()) CHECK(to_float(v) == 0.0f);
}

TEST_CASE("backend: a NaN LSE is never hidden") {
  const std::size_t bad = GENERATE(0, 1, 2);
  const float others = GENERATE(1.0f, -kInf);
  Received in({.parts = 3, .batch = 1, .heads = 1, .v_dim = 8});
  for (std::size_t p = 0; p < 3; ++p) {
    in.lse(p)[0] = p == bad ? NAN : others;
    std::fill_n(in.o(p), 8, to_bf16(1.0f));
  }
  for (const BF16 v : in.merge()) CHECK(std::isnan(to_float(v)));
}

TEST_CASE("backend: a sink joins a head's softmax") {
  const std::int64_t batch = 3, heads = 5, v_dim = GENERATE(8, 64, 264);
  const float spread = GENERATE(1.0f, 60.0f);
  const auto rows = static_cast<std::size_t>(batch * heads), width = static_cast<std::size_t>(v_dim);
  const auto o = random_bf16(rows * width, 1);
  const auto lse = random_floats(rows, 2, spread),
             sinks = random_floats(static_cast<std::size_t>(heads), 3, spread);
  std::vector<double> expected, expected_lse;
  for (std::size_t r = 0; r < rows; ++r) {
    const auto before = static_cast<double>(lse[r]), sink = static_cast<double>(sinks[r % sinks.size()]);
    const double factor = 1.0 / (1.0 + std::exp(sink - before));
    for (std::size_t d = 0; d < width; ++d) expected.push_back(factor * as_double(o[r * width + d]));
    expected_lse.push_back(std::max(before, sink) + std::log1p(std::exp(-std::fabs(sink - before))));
  }
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> values(o);
    const DeviceVector<float> sums(lse), added(sinks);
    device().add_sinks(batch, heads, v_dim, added.data(), values.data(), sums.data());
    // The exponent's difference is rounded: up to 120 by 2^-18.
    CHECK(first_difference(values.values(), expected, 0x1.1p-8, 1e-30) == "");
    CHECK(first_difference(sums.values(), expected_lse, 1e-6, 1e-6) == "");
  });
}

TEST_CASE("backend: beside a sink alone the output is zero, and a NaN is not hidden") {
  constexpr std::size_t v_dim = 16;
  in_every_order_of_threads([&] {
    const DeviceVector<BF16> o(unwritten, 4 * v_dim);
    for (const std::size_t row : {1, 2}) o.write(row * v_dim, std::vector<BF16>(v_dim, to_bf16(2.0f)));
    const DeviceVector<float> lse(std::vector<float>{-kInf, NAN, 1.0f, -kInf}),
        sinks(std::vector<float>{0.5f, -kInf});
    device().add_sinks(2, 2, v_dim, sinks.data(), o.data(), lse.data());
    std::vector<double> expected(v_dim, 0.0);
    expected.insert(expected.end(), v_dim, std::nan(""));
    expected.insert(expected.end(), v_dim, 2.0 / (1.0 + std::exp(-0.5)));
    expected.insert(expected.end(), v_dim, 0.0);
    CHECK(first_difference(o.values(), expected, 0x1p-8) == "");
    const std::vector<float> sums = lse.values();
    CHECK(sums[0] == 0.5f);
    CHECK(std::isnan(sums[1]));
    CHECK(sums[3] == -kInf);
  });
}

TEST_CASE("backend: a sink on one shard is a sink of the whole") {
  // Scores of one head's tokens, split 0 + 3 + 2: the first shard, which has none, adds the sink.
  constexpr std::size_t width = 8;
  const std::vector<double> scores{0.3, -1.2, 2.5, 0.0, 1.1}, v{1, 2, -3, 4, 0.5};
  const double sink = 1.7;
  Received in({.parts = 3, .batch = 1, .heads = 1, .v_dim = width});
  double whole = 0.0, total = std::exp(sink);
  const auto attend = [&](std::size_t part, std::size_t begin, std::size_t end) {
    double sum = 0.0, o = 0.0;
    for (std::size_t t = begin; t < end; ++t) {
      sum += std::exp(scores[t]);
      o += std::exp(scores[t]) * v[t];
    }
    whole += o;
    total += sum;
    in.lse(part)[0] = static_cast<float>(std::log(sum));
    std::fill_n(in.o(part), width, to_bf16(static_cast<float>(o / sum)));
  };
  const DeviceVector<BF16> o(width, bf16_nan());
  const DeviceVector<float> lse(std::vector<float>{-kInf}),
      sinks(std::vector<float>{static_cast<float>(sink)});
  device().add_sinks(1, 1, width, sinks.data(), o.data(), lse.data());
  const std::vector<BF16> first = o.values();
  std::copy(first.begin(), first.end(), in.o(0));
  in.lse(0)[0] = lse.values()[0];
  attend(1, 0, 3);
  attend(2, 3, 5);
  CHECK(first_difference(in.merge(), std::vector<double>(width, whole / total), 0x1p-7) == "");
}
