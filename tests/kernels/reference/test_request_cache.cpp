// The reference's cache of one request: what it holds, and attention over it.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>

#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/synthetic.hpp"
#include "kernels/ops/tensor_ids.hpp"
#include "kernels/reference/request_cache.hpp"
#include "tests/compare.hpp"
#include "tests/values.hpp"

using namespace helix;
using namespace helix::testing;
using reference::RequestCache;
using reference::Vector;

namespace {

constexpr double kFp64 = 1e-12;  // sums of at most 10^4 terms of order 1, each rounded to 2^-53

}  // namespace

TEST_CASE("attention by hand: weights 3/4 and 1/4") {
  // Two KV heads; query heads 0 and 1 read the first, 2 and 3 the second.
  RequestCache cache({.kv_heads = 2, .head_dim = 2, .v_dim = 1}, 1, 0, 0, 0);
  const double l = std::log(3.0);
  CHECK(cache.attend(Vector(8, 1.0), 1.0) == Vector(4, 0.0));  // no token yet
  cache.append(Vector{1, 0, 0, 2}, Vector{4, 100});
  cache.append(Vector{0, 1, 2, 0}, Vector{8, 200});
  const Vector q{l, 0, 0, l, l / 2, 0, 0, l / 2};
  CHECK(first_difference(cache.attend(q, 1.0), Vector{5, 7, 175, 125}, kFp64) == "");
  CHECK(first_difference(cache.attend(q, 0.0), Vector{6, 6, 150, 150}, kFp64) == "");
}

TEST_CASE("appended tokens are kept as the cache holds them") {
  for (const DType dtype : {DType::bf16, DType::fp8}) {
    RequestCache cache({.kv_heads = 1, .head_dim = 1, .v_dim = 2, .dtype = dtype}, 1, 0, 0, 0);
    cache.append(Vector{1}, Vector{1.05, 1000});  // bf16: steps of 1/128, fp8: steps of 1/8 and at most 448
    CHECK(cache.attend(Vector{1}, 1.0) ==
          (dtype == DType::fp8 ? Vector{1, 448} : Vector{1 + 6.0 / 128, 1000}));
  }
}

TEST_CASE("an NVFP4 cache holds blocks of 16 that share a scale") {
  // Blocks whose largest are 6 and 3 * 2^-9 have scales 1 and 2^-10, of which e4m3 makes 0 (a tie to even).
  RequestCache cache({.kv_heads = 1, .head_dim = 16, .v_dim = 32, .dtype = DType::nvfp4}, 1, 0, 0, 0);
  Vector v(32, 0.0), expected(32, 0.0);
  const Vector first{6, 5.1, -5, 0.25, 0.26, 0.75, -1.2, 1.75}, held{6, 6, -4, 0, 0.5, 1, -1, 2};
  std::ranges::copy(first, v.begin());
  std::ranges::copy(held, expected.begin());
  v[16] = 3 * 0x1p-9;
  cache.append(Vector(16, 1.0), v);
  CHECK(cache.attend(Vector(16, 0.0), 1.0) == expected);
}

TEST_CASE("the reference reads the NVFP4 history that synthetic.hpp defines") {
  const KvShape shape{.kv_heads = 2, .head_dim = 32, .v_dim = 48, .dtype = DType::nvfp4};
  const RequestCache cache(shape, 9, 2, 5, 1);
  Vector expected;
  for (const std::uint32_t head : {10u, 11u}) {
    const auto key = synthetic::tensor_key(9, static_cast<std::uint32_t>(Tensor::history_v), 2, head);
    const std::uint32_t row = synthetic::row_key(key, 0);
    for (std::uint32_t begin = 0; begin < 48; begin += 16) {
      float largest = 0.0f;
      for (std::uint32_t d = begin; d < begin + 16; ++d)
        largest = std::max(largest, std::fabs(synthetic::unit_value(row, d)));
      const FP8 scale = nvfp4_scale(largest);
      for (std::uint32_t d = begin; d < begin + 16; ++d)
        expected.push_back(
            as_double(e2m1_to_float(to_nvfp4(synthetic::unit_value(row, d), scale)) * to_float(scale)));
    }
  }
  CHECK(first_difference(cache.attend(Vector(64, 0.5), 1.0), expected, kFp64) == "");
}

TEST_CASE("the reference reads the history that synthetic.hpp defines") {
  const DType dtype = GENERATE(DType::bf16, DType::fp8);
  const auto stored = [&](std::uint64_t key, std::int64_t row, std::uint32_t col) {
    const float x = synthetic::unit_value(synthetic::row_key(key, row), col);
    return as_double(dtype == DType::fp8 ? to_float(to_fp8(x)) : to_float(to_bf16(x)));
  };
  const auto key = [](Tensor t, std::uint32_t index) {
    return synthetic::tensor_key(9, static_cast<std::uint32_t>(t), 2, index);
  };
  SECTION("one token: its V row, of request 5 and both heads") {
    const RequestCache cache({.kv_heads = 2, .head_dim = 3, .v_dim = 4, .dtype = dtype}, 9, 2, 5, 1);
    Vector expected;
    for (std::uint32_t head : {0u, 1u}) {
      for (std::uint32_t d = 0; d < 4; ++d)
        expected.push_back(stored(key(Tensor::history_v, 10 + head), 0, d));
    }
    CHECK(first_difference(cache.attend(Vector(6, 0.5), 1.0), expected, kFp64) == "");
  }
  SECTION("MLA: V is the head of the K row; blocks of tokens and appended ones add up") {
    const std::int64_t context = 150;
    RequestCache cache({.kind = AttentionKind::mla, .kv_heads = 1, .head_dim = 7, .v_dim = 5, .dtype = dtype},
                       9, 2, 3, context);
    std::vector<Vector> rows;
    for (std::int64_t t = 0; t < context; ++t) {
      rows.emplace_back();
      for (std::uint32_t d = 0; d < 7; ++d) rows.back().push_back(stored(key(Tensor::history_k, 3), t, d));
    }
    rows.push_back(Vector{1, -0.5, 0.25, -2, 0.75, 1.5, -1});  // bf16 and fp8 hold these
    cache.append(rows.back(), {});
    const Vector q = random_doubles(7, 2);
    double sum = 0;
    Vector expected(5, 0.0);
    for (const Vector& row : rows) {
      double score = 0;
      for (std::size_t d = 0; d < 7; ++d) score += q[d] * row[d];
      const double weight = std::exp(20.0 * score);  // sharp: the running maximum changes
      sum += weight;
      for (std::size_t d = 0; d < 5; ++d) expected[d] += weight * row[d];
    }
    for (double& x : expected) x /= sum;
    CHECK(first_difference(cache.attend(q, 20.0), expected, 1e-10, 1e-12) == "");
  }
}

TEST_CASE("threads attend parts of the tokens, and the parts are merged") {
  const std::int64_t context = 7000;
  const auto check = [&](const KvShape& shape, std::int64_t q_heads, const reference::Attended& attended) {
    const RequestCache cache(shape, 9, 2, 5, context);
    // Sharp: parts differ in their largest scores.
    const Vector q = random_doubles(static_cast<std::size_t>(q_heads * shape.head_dim), 3);
    const Vector alone = cache.attend(q, 20.0, attended);
    for (const int threads : {2, 3, 8})
      CHECK(first_difference(cache.attend(q, 20.0, attended, threads), alone, 1e-10, 1e-12) == "");
  };
  const KvShape grouped{.kv_heads = 2, .head_dim = 16, .v_dim = 16, .dtype = DType::bf16};
  check(grouped, 6, {});
  check(grouped, 6, {.window = 4500});
  check({.kind = AttentionKind::mla, .kv_heads = 1, .head_dim = 24, .v_dim = 16, .dtype = DType::fp8}, 3, {});
  std::vector<bool> chosen(context);  // of a part without any, nothing is merged
  for (std::size_t t = 6000; t < 6800; t += 3) chosen[t] = true;
  check(grouped, 4, {.chosen = &chosen});
}
