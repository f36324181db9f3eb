#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/small_ops.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

/// What each of `parts` peers sends to this rank: its partials of the same heads, NaN in every byte not
/// written.
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
  std::vector<BF16> merge(int threads = 1) const {
    std::vector<BF16> out(rows() * static_cast<std::size_t>(shape.v_dim), bf16_nan());
    cpu::merge_partials(shape, bytes.data(), out.data(), threads);
    return out;
  }
};

}  // namespace

TEST_CASE("partials travel to the part that owns their heads, LSE bit for bit") {
  const PartialShape shape{.parts = 3, .batch = 5, .heads = 7, .v_dim = 33};  // lse_offset needs its padding
  const std::int64_t all_heads = shape.parts * shape.heads;
  const auto o = random_bf16(static_cast<std::size_t>(shape.batch * all_heads * shape.v_dim), 1);
  auto lse = random_floats(static_cast<std::size_t>(shape.batch * all_heads), 2, 10.0f);
  lse.at(0) = -kInf;
  lse.at(1) = std::bit_cast<float>(0x7fc12345u);  // a NaN's payload
  lse.at(2) = std::bit_cast<float>(0x00000001u);  // subnormal
  lse.at(3) = -0.0f;
  Received packed(shape);
  cpu::pack_partials(shape, o.data(), lse.data(), packed.bytes.data(), 2);
  for (std::int64_t p = 0; p < shape.parts; ++p) {
    const auto part = static_cast<std::size_t>(p);
    std::vector<float> expected_lse;
    std::vector<BF16> expected_o;
    for (std::int64_t b = 0; b < shape.batch; ++b) {
      for (std::int64_t h = p * shape.heads; h < (p + 1) * shape.heads; ++h) {
        expected_lse.push_back(lse[static_cast<std::size_t>(b * all_heads + h)]);
        const auto row = o.begin() + (b * all_heads + h) * shape.v_dim;
        expected_o.insert(expected_o.end(), row, row + shape.v_dim);
      }
    }
    CHECK(bits_of(std::span(packed.lse(part), packed.rows())) == bits_of(expected_lse));
    CHECK(std::memcmp(packed.o(part), expected_o.data(), expected_o.size() * sizeof(BF16)) == 0);
  }
}

TEST_CASE("merge equals the fp64 formula, for any number of parts") {
  const std::int64_t parts = GENERATE(1, 2, 3, 8, 13);
  const std::int64_t v_dim = GENERATE(1, 64, 127, 512, 515);
  Received in({.parts = parts, .batch = 3, .heads = 5, .v_dim = v_dim});
  const auto values = static_cast<std::size_t>(v_dim);
  for (std::size_t p = 0; p < static_cast<std::size_t>(parts); ++p) {
    const auto o = random_bf16(in.rows() * values, static_cast<unsigned>(10 + p));
    const auto lse = random_floats(in.rows(), static_cast<unsigned>(50 + p), 3.0f);
    std::copy(o.begin(), o.end(), in.o(p));
    for (std::size_t r = 0; r < in.rows(); ++r) in.lse(p)[r] = lse[r] + 500.0f;  // exp(500) overflows
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
  // too. Terms of either sign cancel, so the fp32 error is absolute: parts * |o| * 2^-24 with |o| < 6.
  CHECK(first_difference(in.merge(2), expected, 0x1.01p-8, 13 * 6 * 0x1p-23) == "");
}

TEST_CASE("merging shards equals attention over all tokens") {
  // One head, tokens split 5 + 0 + 2: each shard's O and LSE by definition.
  const std::vector<double> scores{0.3, -1.2, 2.5, 0.0, 1.1, 4.0, -0.7}, v{1, 2, -3, 4, 0.5, -1, 8};
  const std::vector<std::pair<std::size_t, std::size_t>> shards{{0, 5}, {5, 5}, {5, 7}};
  Received in({.parts = 3, .batch = 1, .heads = 1, .v_dim = 1});
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
    if (shards[p].first < shards[p].second) in.o(p)[0] = to_bf16(static_cast<float>(o));
  }
  REQUIRE(in.lse(1)[0] == -kInf);
  double lse = 0.0;
  const double whole = attend(0, 7, lse);
  CHECK(first_difference(in.merge(), std::vector<double>{whole}, 0x1p-7) ==
        "");  // O_p and O are rounded to bf16
}

TEST_CASE("an empty shard is selected away although its O is NaN") {
  Received in({.parts = 3, .batch = 2, .heads = 3, .v_dim = 65});
  const auto o = random_bf16(in.rows() * 65, 3);
  for (std::size_t r = 0; r < in.rows(); ++r) {
    in.lse(0)[r] = in.lse(2)[r] = -kInf;  // their O is 0xffff, a NaN
    in.lse(1)[r] = -1000.0f;              // exp(-1000) is 0 in fp32 and fp64
  }
  std::copy(o.begin(), o.end(), in.o(1));
  CHECK(first_difference(in.merge(), o, 0.0) == "");
}

TEST_CASE("all shards empty: zero") {
  Received in({.parts = 2, .batch = 2, .heads = 3, .v_dim = 5});
  for (std::size_t p = 0; p < 2; ++p) std::fill_n(in.lse(p), in.rows(), -kInf);
  for (const BF16 v : in.merge()) CHECK(to_float(v) == 0.0f);
}

TEST_CASE("a NaN LSE is never hidden") {
  const std::size_t bad = GENERATE(0, 1, 2);
  const float others = GENERATE(1.0f, -kInf);
  Received in({.parts = 3, .batch = 1, .heads = 1, .v_dim = 2});
  for (std::size_t p = 0; p < 3; ++p) {
    in.lse(p)[0] = p == bad ? NAN : others;
    std::fill_n(in.o(p), 2, to_bf16(1.0f));
  }
  for (const BF16 v : in.merge()) CHECK(std::isnan(to_float(v)));
}
