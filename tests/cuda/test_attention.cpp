// Flash-decode on the emulated GPU against fp64, by the case matrix of the CPU's
// (tests/kernels/test_attention.cpp).
#include "kernels/cuda/attention.cuh"

#include <catch2/catch.hpp>
#include <cmath>
#include <vector>

#include "gpus.hpp"
#include "kernels/cuda/kv_write.cuh"
#include "paged_cache.hpp"
#include "simt/every_order.hpp"

namespace helix::cuda {
namespace {

struct Emulated {
  template <typename T>
  using Array = simt::DeviceArray<T>;
  static std::size_t kv_page_bytes(const KvShape& shape) { return cuda::kv_page_bytes(shape); }
  static void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
                        std::int64_t ldk, const BF16* v, std::int64_t ldv) {
    cuda::kv_append(Stream{}, cache, batch, slots, k, ldk, v, ldv);
  }
};
using Cache = PagedCache<Emulated>;

AttentionResult run(const Gpu& gpu, const Cache& cache, std::int64_t q_heads, float scale,
                    const std::vector<BF16>& q) {
  const KvView view = cache.view();
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  const simt::DeviceArray<BF16> device_q(q, "q"),
      o(static_cast<std::size_t>(batch * q_heads * view.shape.v_dim), "o");
  const simt::DeviceArray<float> lse(static_cast<std::size_t>(batch * q_heads), "lse");
  const simt::DeviceArray<std::byte> scratch(attention_scratch_bytes(gpu, view.shape, batch, q_heads),
                                             "scratch");
  attention(gpu, Stream{}, view, batch, q_heads, scale, device_q.data(), o.data(), lse.data(),
            scratch.data());
  return {{o.span().begin(), o.span().end()}, {lse.span().begin(), lse.span().end()}};
}

void test(const Gpu& gpu, Cache& cache, std::int64_t group, float q_scale = 4.0f) {
  const KvShape shape = cache.view().shape;
  const std::int64_t q_heads = group * shape.kv_heads;
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  const std::vector<BF16> q = cache.random_row(batch * q_heads * shape.head_dim, q_scale);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  INFO("dim " << shape.head_dim << " group " << group << " page " << shape.tokens_per_page << ' '
              << name(shape.dtype));
  check_attention(cache, q_heads, scale, q, run(gpu, cache, q_heads, scale, q));
}

int splits_of(const Gpu& gpu, const Cache& cache, std::int64_t q_heads) {
  const KvView view = cache.view();
  const DecodePlan plan(gpu, view.shape, static_cast<std::int64_t>(cache.lengths().size()), q_heads);
  return choose_splits(plan.blocks, plan.block_slots, view.max_pages * view.shape.tokens_per_page);
}

constexpr DType kv_types[] = {DType::bf16, DType::fp8, DType::nvfp4};
const std::vector<std::int64_t> edge_lengths = {0, 1, 2, 15, 16, 17, 31, 32, 33, 0, 255, 256, 257, 1000};

TEST_CASE("attention: lengths at every edge, in one batch, in every order") {
  for (DType dtype : kv_types) {
    Cache cache(gqa(2, 64, dtype), edge_lengths);
    cache.append_random();
    simt::in_every_order([&] { test(kDatacentreGpu, cache, 4); });
  }
}

TEST_CASE("attention: group sizes") {
  Cache cache(gqa(1, 64), {257, 40});
  cache.append_random();
  for (std::int64_t group : {1, 2, 3, 5, 7, 8, 9, 16, 17, 33, 128}) test(kSmallGpu, cache, group);
}

TEST_CASE("attention: page sizes and head dims") {
  for (int page : {1, 7, 16, 24, 32, 80, 512})
    for (std::int64_t dim : {64, 128, 256})
      for (DType dtype : kv_types) {
        Cache cache(gqa(1, dim, dtype, page), {page == 1 ? 40 : 300, 5});
        cache.append_random();
        test(kDatacentreGpu, cache, page == 24 ? 16 : 4);
      }
}

TEST_CASE("attention: MLA") {
  for (DType dtype : kv_types)
    for (int page : {7, 32, 64}) {
#ifdef __SANITIZE_ADDRESS__
      if (page != (dtype == DType::bf16 ? 32 : 7)) continue;
#endif
      Cache cache(mla(dtype, page), {1, 290, 0, 33});
      cache.append_random();
      for (std::int64_t heads : {1, 16, 20, 128})
        if (heads == 16 || (page == 32 && (heads != 128 || dtype == DType::bf16)))
          test(kDatacentreGpu, cache, heads);
      test(kSmallGpu, cache, 16);
    }
}

TEST_CASE("attention: MLA in every order") {
  Cache cache(mla(), {200});
  cache.append_random();
  simt::in_every_order([&] { test(kDatacentreGpu, cache, 33); });
}

TEST_CASE("attention: a request split over blocks, empty and short ones beside it") {
  for (DType dtype : kv_types) {
    Cache grouped(gqa(1, 128, dtype), {1500, 0, 3});
    grouped.append_random();
    REQUIRE(splits_of(kDatacentreGpu, grouped, 10) > 1);
    test(kDatacentreGpu, grouped, 10);
    Cache latent(mla(dtype), {600, 0});
    latent.append_random();
    REQUIRE(splits_of(kDatacentreGpu, latent, 8) > 1);
    test(kDatacentreGpu, latent, 8);
  }
}

TEST_CASE("attention: how many splits") {
  // Batch 1 at 64K tokens fills a GPU of 132 multiprocessors, each running two blocks.
  for (std::int64_t blocks : {1, 2, 3, 8, 16, 100}) {
    const int splits = choose_splits(blocks, 264, 65536);
    const double waves = static_cast<double>(blocks * splits) / 264;
    INFO(blocks << " blocks, " << splits << " splits");
    REQUIRE(waves / std::ceil(waves) >= 0.85);
    REQUIRE(splits <= most_splits(blocks, 264));
  }
  REQUIRE(choose_splits(8, 264, kSplitTokens * 3) <= 3);
  REQUIRE(choose_splits(10'000, 264, 65536) == 1);
  REQUIRE(most_splits(10'000, 264) == 1);
}

TEST_CASE("attention: one token is exact") {
  for (const KvShape& shape : {gqa(2, 128), mla()}) {
    Cache cache(shape, {1});
    cache.append_random();
    const std::int64_t q_heads = 4 * shape.kv_heads;
    const AttentionResult result =
        run(kDatacentreGpu, cache, q_heads, 0.1f, cache.random_row(q_heads * shape.head_dim, 1.0f));
    for (std::int64_t h = 0; h < q_heads; ++h)
      for (std::int64_t d = 0; d < shape.v_dim; ++d)
        REQUIRE(to_float(result.o[h * shape.v_dim + d]) == cache.v(0, 0, h / 4, d));
  }
}

TEST_CASE("attention: huge, tiny and infinite logits") {
  for (const KvShape& shape : {gqa(1, 64), mla()}) {
    const auto with_k = [&](auto set_k, float q_value) {
      Cache cache(shape, {300});
      for (std::int64_t t = 0; t < 300; ++t) {
        std::vector<BF16> k = cache.random_row(shape.head_dim, 0.5f);
        set_k(t, k);
        cache.append(0, t, k, cache.random_row(shape.v_dim, 1.0f));
      }
      const std::int64_t heads = 4;
      const std::vector<BF16> q(static_cast<std::size_t>(heads * shape.head_dim), to_bf16(q_value));
      check_attention(cache, heads, 1.0f, q, run(kDatacentreGpu, cache, heads, 1.0f, q));
    };
    // One token's logit of +-1e30 times the row's width.
    for (float sign : {1.0f, -1.0f})
      with_k(
          [&](std::int64_t t, std::vector<BF16>& k) {
            if (t == 290) std::fill(k.begin(), k.end(), to_bf16(sign * 1e20f));
          },
          1e10f);
    with_k([](std::int64_t, std::vector<BF16>& k) { std::fill(k.begin(), k.end(), to_bf16(0.0f)); }, 1e-30f);
    // Masked tokens: logits of -inf, alone in the first tiles and later.
    with_k(
        [](std::int64_t t, std::vector<BF16>& k) {
          if (t < 256 || t == 280) k.back() = to_bf16(-std::numeric_limits<float>::infinity());
        },
        0.125f);
  }
}

TEST_CASE("attention: nothing but -inf logits is an empty shard") {
  Cache cache(gqa(1, 64), {40});
  for (std::int64_t t = 0; t < 40; ++t)
    cache.append(0, t, std::vector<BF16>(64, to_bf16(-std::numeric_limits<float>::infinity())),
                 cache.random_row(64, 1.0f));
  REQUIRE(run(kDatacentreGpu, cache, 1, 1.0f, std::vector<BF16>(64, to_bf16(1.0f))).lse[0] == -infinity);
}

TEST_CASE("attention: a NaN in a valid token is not hidden") {
  for (const KvShape& shape : {gqa(1, 64), mla()}) {
    Cache cache(shape, {100});
    cache.append_random();
    std::vector<BF16> k = cache.random_row(shape.head_dim, 1.0f);
    k[5] = to_bf16(nan_value);
    cache.append(0, 50, k, cache.random_row(shape.v_dim, 1.0f));
    const AttentionResult result =
        run(kDatacentreGpu, cache, 1, 1.0f, cache.random_row(shape.head_dim, 1.0f));
    REQUIRE(std::isnan(to_float(result.o[0])));
    REQUIRE(std::isnan(result.lse[0]));
  }
}

TEST_CASE("attention: thousands of tokens within 2e-3 of fp64 in the norm") {
  const std::int64_t tokens = 8192, group = 4, dim = 64;
  Cache cache(gqa(1, dim), {tokens});
  cache.append_random();
  const std::vector<BF16> q = cache.random_row(group * dim, 4.0f);
  std::vector<double> q_exact, o(group * dim), lse(group);
  for (BF16 x : q) q_exact.push_back(to_float(x));
  reference_attention(
      {tokens, group, 1, dim, dim, 0.125, [&](auto t, auto h, auto d) { return cache.k(0, t, h, d); },
       [&](auto t, auto h, auto d) { return cache.v(0, t, h, d); }},
      q_exact.data(), o.data(), lse.data());
  const AttentionResult result = run(kDatacentreGpu, cache, group, 0.125f, q);
  double error = 0.0, norm = 0.0;
  for (std::size_t i = 0; i < o.size(); ++i) {
    const double difference = to_float(result.o[i]) - o[i];
    error += difference * difference;
    norm += o[i] * o[i];
  }
  REQUIRE(std::sqrt(error) < 2e-3 * std::sqrt(norm));
}

TEST_CASE("attention: a GPU whose shared memory is too small, shapes without a kernel") {
  const auto scratch = [](const Gpu& gpu, const KvShape& shape) {
    attention_scratch_bytes(gpu, shape, 1, 8);
  };
  REQUIRE_THROWS_AS(scratch({1, 48 * 1024, 48 * 1024}, gqa(1, 128)), UsageError);
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, gqa(1, 96)), UsageError);
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, gqa(1, 128, DType::fp4)), UsageError);
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, {AttentionKind::mla, 1, 96, 64, 32, DType::bf16}), UsageError);
  REQUIRE_THROWS_AS(scratch(kDatacentreGpu, gqa(1, 128, DType::bf16, 0)), UsageError);
}

TEST_CASE("history: the bytes that appending unit_value writes") {
  for (DType dtype : kv_types)
    for (const KvShape& shape : {gqa(2, 64, dtype), gqa(1, 128, dtype, 7), mla(dtype), mla(dtype, 7)}) {
      const std::int64_t tokens = 75;
      const bool latent = shape.kind == AttentionKind::mla;
      const HistorySlice history{7, 3, 5, 2, latent ? 0 : 1, latent ? 1 : 8, 1'000'000'000'000, tokens};
      Cache appended(shape, {tokens, tokens});
      const Cache filled(shape, {tokens, tokens});
      for (std::int64_t b = 0; b < 2; ++b)
        for (std::int64_t t = 0; t < tokens; ++t) {
          std::vector<BF16> k, v;
          for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
            const auto row = [&](Tensor tensor) {
              const std::int64_t set = (5 + b) * history.global_kv_heads + history.first_kv_head + h;
              return synthetic::row_key(synthetic::tensor_key(7, static_cast<std::uint32_t>(tensor), 3,
                                                              static_cast<std::uint32_t>(set)),
                                        history.first_position + t);
            };
            for (std::uint32_t d = 0; d < shape.head_dim; ++d)
              k.push_back(to_bf16(synthetic::unit_value(row(Tensor::history_k), d)));
            for (std::uint32_t d = 0; d < shape.v_dim; ++d)
              v.push_back(to_bf16(synthetic::unit_value(row(Tensor::history_v), d)));
          }
          appended.append(b, t, k, v);
        }
      kv_fill_history(Stream{}, filled.view(), history);
      const std::size_t bytes = filled.pages().size();
      REQUIRE(std::memcmp(filled.pages().data(), appended.pages().data(), bytes) == 0);
    }
}

}  // namespace
}  // namespace helix::cuda
