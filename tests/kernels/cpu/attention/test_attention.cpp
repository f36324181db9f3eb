// Flash-decode on the CPU: what its layouts and threads have that no other backend has. The cases for every
// backend are in tests/backend.
#include "backend/paged_cache.hpp"
#include "kernels/cpu/attention/attention.hpp"

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

TEST_CASE("attention on the CPU reads a NaN from an fp8 cache as a NaN") {  // the GPU's kernels read 480
  check_fp8_values([](float) { return true; });
}

TEST_CASE("attention on the CPU does not depend on the number of threads beyond rounding") {
  // Up to 3 threads have pages enough to go through all KV heads side by side, in kernels that do so.
  for (const DType dtype : kv_types()) {
    PagedCache cache(gqa(2, 64, dtype), {1000, 3, 0, 700});
    cache.append_random();
    on_every_path([&] {
      const std::vector<BF16> q = cache.random_row(4 * 8 * 64, 4.0f);
      check_random_queries(cache, 4);
      const AttentionResult one = attend(cache, 8, 0.125f, q, *make_cpu_backend(1));
      for (const int threads : {2, 3, 5}) {
        const AttentionResult many = attend(cache, 8, 0.125f, q, *make_cpu_backend(threads));
        for (std::size_t i = 0; i < one.o.size(); ++i) {
          const float a = to_float(one.o[i]), b = to_float(many.o[i]);
          // Both are within a rounding to bf16 of sums that differ by bf16 probabilities.
          if (std::isnan(a) && std::isnan(b)) continue;  // no tokens: not written
          REQUIRE(std::fabs(a - b) <= 0x1p-7f * std::fabs(a) + 1e-3f);
        }
      }
    });
  }
}

TEST_CASE("attention on the CPU has scratch memory for fewer heads where it has it for many") {
  // As a step with drafts has it, some of whose rows are one token's.
  for (const DType dtype : kv_types())
    on_every_path([&] {
      std::size_t before = 0;
      for (std::int64_t heads = 8; heads <= 256; heads += 8) {
        const std::size_t bytes = cpu::attention_scratch_bytes(gqa(8, 64, dtype), 1, heads, 2);
        CHECK(bytes >= before);
        before = bytes;
      }
    });
}
