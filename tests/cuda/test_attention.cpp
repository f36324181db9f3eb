// Flash-decode on the emulated GPU: how a request is split over blocks, other GPUs, and what is refused. The
// cases for every backend are in tests/backend.
#include "kernels/cuda/attention/attention.cuh"

#include <catch2/catch.hpp>
#include <cmath>

#include "backend/paged_cache.hpp"
#include "cuda/emulated_backend.hpp"
#include "gpus.hpp"
#include "roofline/step/sharding.hpp"

namespace helix::cuda {
namespace {

using testing::gqa;
using testing::mla;
using testing::PagedCache;

int splits_of(const Gpu& gpu, const PagedCache& cache, std::int64_t q_heads) {
  const KvView view = cache.view();
  const DecodePlan plan(gpu, view.shape, static_cast<std::int64_t>(cache.lengths().size()), q_heads);
  return choose_splits(plan.blocks, plan.block_slots,
                       view.max_pages * view.shape.tokens_per_page / gpu.split_tokens);
}

TEST_CASE("attention: kernels for every type of cache") {
  REQUIRE(testing::kv_types() == std::vector<DType>{DType::bf16, DType::fp8, DType::nvfp4});
}

TEST_CASE("attention: on a GPU with less shared memory") {
  testing::EmulatedBackend small(kSmallGpu);
  PagedCache grouped(gqa(1, 64), {257, 40});
  grouped.append_random();
  for (const std::int64_t group : {1, 2, 3, 5, 7, 8, 9, 16, 17, 33, 128})
    check_random_queries(grouped, group, small);
  for (const DType dtype : testing::kv_types())
    for (const int page : {7, 32, 64}) {
#ifdef __SANITIZE_ADDRESS__
      if (page != (dtype == DType::bf16 ? 32 : 7)) continue;
#endif
      PagedCache latent(mla(dtype, page), {1, 290, 0, 33});
      latent.append_random();
      check_random_queries(latent, 16, small);
    }
}

TEST_CASE("attention: a request split over blocks, empty and short ones beside it") {
  for (const DType dtype : testing::kv_types()) {
    PagedCache grouped(gqa(1, 128, dtype), {1500, 0, 3});
    grouped.append_random();
    REQUIRE(splits_of(kDatacentreGpu, grouped, 10) > 1);
    check_random_queries(grouped, 10);
    PagedCache latent(mla(dtype), {600, 0});
    latent.append_random();
    REQUIRE(splits_of(kDatacentreGpu, latent, 8) > 1);
    check_random_queries(latent, 8);
  }
}

TEST_CASE("attention: beside an exchange, in blocks of eight warps too") {
  testing::EmulatedBackend backend(kDatacentreGpu), small(kSmallGpu);
  for (testing::EmulatedBackend* const gpu : {&backend, &small}) gpu->beside_exchange(true);
  for (const DType dtype : testing::kv_types()) {
    for (const std::int64_t dim : {64, 128, 256}) {
      PagedCache grouped(gqa(1, dim, dtype), {300, 0, 129, 1});
      grouped.append_random();
      for (const std::int64_t group : {8, 10}) check_random_queries(grouped, group, backend);
    }
    PagedCache grouped(gqa(1, 64, dtype), {257});
    grouped.append_random();
    check_random_queries(grouped, 9, small);
    PagedCache latent(mla(dtype), {290});
    latent.append_random();
    check_random_queries(latent, 16, backend);
  }
}

// A block of the exchange needs a whole multiprocessor: more than half of its registers (Gpu::left_to_exchange).
TEST_CASE("attention: beside an exchange it leaves multiprocessors free, else none") {
  int in_one_wave = 0, in_more = 0;
  const auto check = [&](const Gpu& gpu, const KvShape& shape, std::int64_t batch, std::int64_t group) {
    const std::int64_t q_heads = group * shape.kv_heads;
    const DecodePlan alone(gpu, shape, batch, q_heads), beside(gpu, shape, batch, q_heads, Beside::exchange);
    INFO(gpu.multiprocessors << " multiprocessors, " << batch << " requests, groups of " << group << ", dim "
                             << shape.head_dim << ' ' << name(shape.dtype));
    REQUIRE(alone.block_slots == gpu.multiprocessors * alone.resident(gpu));
    REQUIRE(alone.kernel.threads * alone.resident(gpu) == beside.kernel.threads);  // as many warps
    REQUIRE(beside.resident(gpu) == 1);
    REQUIRE(beside.kernel.shared_bytes <= gpu.shared_bytes_per_block);
    REQUIRE(beside.block_slots + gpu.left_to_exchange() == gpu.multiprocessors);
    for (const std::int64_t tokens : {1'000, 100'000, 1'000'000}) {
      const std::int64_t blocks =
          beside.blocks * choose_splits(beside.blocks, beside.block_slots, tokens / gpu.split_tokens);
      // One wave leaves them free; of more than one the first to end makes room.
      ++(blocks + gpu.left_to_exchange() <= gpu.multiprocessors ? in_one_wave : in_more);
    }
  };
  for (const int multiprocessors : kRealMultiprocessors) {
    const Gpu gpu{multiprocessors, 227 * 1024, 228 * 1024}, small{multiprocessors, 99 * 1024, 100 * 1024};
    REQUIRE(gpu.left_to_exchange() == 8);
    for (const DType dtype : testing::kv_types()) {
      for (const std::int64_t batch : {1, 8, 64}) {
        for (const std::int64_t dim : {64, 128, 256})
          for (const std::int64_t group : {1, 8, 16}) check(gpu, gqa(8, dim, dtype), batch, group);
        for (const std::int64_t heads : {16, 32, 128}) check(gpu, mla(dtype), batch, heads);
        check(small, gqa(8, 128, dtype), batch, 8);
      }
    }
  }
  REQUIRE(in_one_wave > 0);
  REQUIRE(in_more > 0);
  REQUIRE(kDatacentreGpu.left_to_exchange() == 2);
  REQUIRE(Gpu{.multiprocessors = 1}.left_to_exchange() == 0);
}

TEST_CASE("attention: how many splits") {
  // Batch 1 at 64K tokens fills a GPU of 132 multiprocessors, each running two blocks.
  for (std::int64_t blocks : {1, 2, 3, 8, 16, 100}) {
    const int splits = choose_splits(blocks, 264, 65536 / 128);
    const double waves = static_cast<double>(blocks * splits) / 264;
    INFO(blocks << " blocks, " << splits << " splits");
    REQUIRE(waves / std::ceil(waves) >= 0.85);
    REQUIRE(splits <= most_splits(blocks, 264));
  }
  REQUIRE(choose_splits(8, 264, 3) <= 3);
  REQUIRE(choose_splits(10'000, 264, 65536 / 128) == 1);
  REQUIRE(most_splits(10'000, 264) == 1);
}

TEST_CASE("attention: scratch memory is enough for all smaller batches, too") {
  // Settings in which a piece of HOP-B, or the second of two micro-batches, needs more than the whole batch.
  int of_pieces = 0, of_micro_batches = 0;
  for (const int multiprocessors : kRealMultiprocessors) {
    for (const std::int64_t kv_heads : {1, 2, 4, 8}) {
      const Gpu gpu = wide_gpu(multiprocessors);
      const KvShape shape = gqa(kv_heads, 128);
      const std::int64_t q_heads = 8 * kv_heads;
      const auto needed = [&](std::int64_t batch) {
        std::size_t bytes = 0;
        for (const Beside beside : {Beside::nothing, Beside::exchange}) {
          const DecodePlan plan(gpu, shape, batch, q_heads, beside);
          bytes = std::max(bytes, plan.scratch_bytes(shape, most_splits(plan.blocks, plan.block_slots)));
        }
        return bytes;
      };
      for (std::int64_t batch = 1; batch <= 96; ++batch) {
        const std::size_t held = attention_scratch_bytes(gpu, shape, batch, q_heads);
        for (int pieces = 1; pieces <= 8; ++pieces) {
          for (int i = 0; i < pieces; ++i) {
            const std::int64_t piece = even_split(batch, pieces, i).size();
            if (piece == 0) continue;
            INFO(multiprocessors << " multiprocessors, " << kv_heads << " KV heads, " << piece << " of "
                                 << batch << " requests");
            REQUIRE(needed(piece) <= held);
            if (needed(piece) > needed(batch)) ++of_pieces;
          }
        }
        if (batch > 1 && needed(batch / 2) > needed((batch + 1) / 2)) ++of_micro_batches;
      }
    }
  }
  REQUIRE(of_pieces > 0);
  REQUIRE(of_micro_batches > 0);
}

TEST_CASE("ops refuse scratch memory that is too small for what they are about to write") {
  testing::EmulatedBackend backend(wide_gpu(132));
  const KvShape shape = gqa(1, 64);
  const std::size_t needed = backend.attention_scratch_bytes(shape, 2, 8);
  REQUIRE(needed > 0);
  const auto scratch = backend.allocate(needed);
  const KvView cache{.shape = shape, .max_pages = 1000};
  REQUIRE_THROWS_WITH(backend.attention(cache, 2, 8, 1.0f, nullptr, nullptr, nullptr, {}),
                      Catch::Contains("attention of 2 requests needs") && Catch::Contains("was given 0"));
  const PackedWeight gate_up{.n = 128, .k = 64, .count = 4}, down{.n = 64, .k = 64, .count = 4};
  const std::size_t moe_bytes = backend.moe_scratch_bytes(2, 2, 64, 64, 4);
  REQUIRE_THROWS_WITH(backend.moe_experts(2, nullptr, {nullptr, nullptr, 2}, {0, gate_up, down}, nullptr,
                                          nullptr, {scratch->data(), moe_bytes - 1}),
                      Catch::Contains("moe_experts of 2 requests needs"));
}

TEST_CASE("attention: a GPU whose shared memory is too small, shapes without a kernel") {
  const auto scratch = [](const Gpu& gpu, const KvShape& shape) {
    attention_scratch_bytes(gpu, shape, 1, 8);
  };
  REQUIRE_THROWS_AS(scratch({1, 48 * 1024, 48 * 1024}, gqa(1, 128)), UsageError);
  const testing::EmulatedBackend tiny({1, 48 * 1024, 48 * 1024});
  REQUIRE_THAT(tiny.why_not(gqa(1, 128)), Catch::Contains("bytes of shared memory a block"));
  REQUIRE(testing::EmulatedBackend(kDatacentreGpu).kernel_for(gqa(1, 128)) == "cuda-mma-bf16");
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, gqa(1, 96)), UsageError);
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, gqa(1, 128, DType::fp4)), UsageError);
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, {AttentionKind::mla, 1, 96, 64, 32, DType::bf16}), UsageError);
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, gqa(1, 128, DType::bf16, 0)), UsageError);
}

TEST_CASE("partials: widths that are no whole 16 bytes are refused") {
  const PartialShape odd{.parts = 1, .batch = 1, .heads = 1, .v_dim = 33};
  REQUIRE_THROWS_AS(testing::device().pack_partials(odd, nullptr, nullptr, nullptr), UsageError);
  REQUIRE_THROWS_AS(testing::device().merge_partials(odd, nullptr, nullptr), UsageError);
}

}  // namespace
}  // namespace helix::cuda
