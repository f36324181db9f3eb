// Flash-decode on the CPU: what its layouts and threads have that no other backend has. The cases for every
// backend are in tests/backend.
#include "backend/paged_cache.hpp"
#include "kernels/fp8.hpp"

using namespace helix;
using namespace helix::testing;

TEST_CASE("attention on the CPU has kernels for narrow heads, in bf16 and fp8") {
  CHECK(kv_types() == std::vector<DType>{DType::bf16, DType::fp8});
  for (const DType dtype : kv_types()) {
    CHECK(runs({AttentionKind::gqa, 2, 48, 16, 32, dtype}));
    CHECK(runs({AttentionKind::mla, 1, 96, 64, 32, dtype}));
    CHECK(runs(mla(dtype, 7)));
  }
}

TEST_CASE("attention on the CPU gives every fp8 value of V back, NaN too") {
  const std::int64_t dim = 256;
  PagedCache cache(gqa(1, dim, DType::fp8), {1});
  std::vector<BF16> v;
  for (int bits = 0; bits < dim; ++bits) v.push_back(to_bf16(to_float(FP8{static_cast<std::uint8_t>(bits)})));
  cache.append(0, 0, cache.random_row(dim, 1.0f), v);
  const std::vector<BF16> q = cache.random_row(4 * dim, 1.0f);
  on_every_path([&] {
    const AttentionResult result = attend(cache, 4, 0.1f, q);
    for (std::size_t i = 0; i < result.o.size(); ++i) {
      const float got = to_float(result.o[i]), stored = to_float(v[i % v.size()]);
      INFO("fp8 bits " << i % v.size());
      REQUIRE((std::isnan(stored) ? std::isnan(got) : got == stored));
    }
  });
}

TEST_CASE("attention on the CPU does not depend on the number of threads beyond rounding") {
  PagedCache cache(gqa(2, 64), {1000, 3, 700});
  cache.append_random();
  const std::vector<BF16> q = cache.random_row(3 * 8 * 64, 4.0f);
  const AttentionResult one = attend(cache, 8, 0.125f, q, *make_cpu_backend(1));
  for (const int threads : {2, 3, 5}) {
    const AttentionResult many = attend(cache, 8, 0.125f, q, *make_cpu_backend(threads));
    for (std::size_t i = 0; i < one.o.size(); ++i) {
      const float a = to_float(one.o[i]), b = to_float(many.o[i]);
      // Both are within a rounding to bf16 of sums that differ by bf16 probabilities.
      REQUIRE(std::fabs(a - b) <= 0x1p-7f * std::fabs(a) + 1e-3f);
    }
  }
}
