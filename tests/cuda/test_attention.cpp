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

}  // namespace
}  // namespace helix::cuda
