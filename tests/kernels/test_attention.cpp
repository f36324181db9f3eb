// Flash-decode on the CPU against fp64, on every instruction set of this machine: shapes, page layouts, and
// the synthetic history.
#include "kernels/tensor_ids.hpp"
#include "tests/kernels/cpu_attention.hpp"

namespace helix {
namespace {

const std::vector<std::int64_t> edge_lengths = {0, 1, 2, 15, 16, 17, 31, 32, 33, 0, 255, 256, 257, 1000};

}  // namespace

TEST_CASE("attention: lengths at every edge, in one batch, by 1 to 3 threads") {
  for (DType dtype : {DType::bf16, DType::fp8}) {
    const KvShape shape = gqa(2, 64, dtype);
    Cache cache(shape, edge_lengths);
    cache.append_random();
    on_every_isa([&] {
      for (int threads : {1, 2, 3}) test({shape, 4, edge_lengths, 4.0f, threads}, cache);
    });
  }
}

TEST_CASE("attention: group sizes") {
  Cache cache(gqa(1, 64), {257, 40});
  cache.append_random();
  on_every_isa([&] {
    for (std::int64_t group : {1, 2, 3, 4, 5, 7, 8, 16, 17, 24, 33, 128})
      test({gqa(1, 64), group, {257, 40}, 4.0f}, cache);
  });
}

TEST_CASE("attention: page sizes and head dims") {
  for (int page : {1, 7, 16, 24, 32, 48, 64, 80, 512})
    for (std::int64_t dim : {64, 128, 256})
      for (DType dtype : {DType::bf16, DType::fp8}) {
        const std::vector<std::int64_t> lengths = {page == 1 ? 40 : 300, 5};
        Cache cache(gqa(1, dim, dtype, page), lengths);
        cache.append_random();
        // Teams take long to assemble on a busy machine: not for every shape.
        const int threads = page == 7 || page == 32 ? 2 : 1;
        on_every_isa([&] { test({gqa(1, dim, dtype, page), 4, lengths, 4.0f, threads}, cache); });
      }
}

TEST_CASE("attention: narrow heads of small models, V narrower than K") {
  for (DType dtype : {DType::bf16, DType::fp8}) {
    const KvShape shape{AttentionKind::gqa, 2, 48, 16, 32, dtype};
    Cache cache(shape, {100, 1});
    cache.append_random();
    on_every_isa([&] { test({shape, 3, {100, 1}, 4.0f}, cache); });
  }
}

TEST_CASE("attention: MLA") {
  for (DType dtype : {DType::bf16, DType::fp8})
    for (int page : {7, 32, 64}) {
      const std::vector<std::int64_t> lengths = {1, 290, 0, 33};
      Cache cache(mla(dtype, page), lengths);
      cache.append_random();
      on_every_isa([&] {
        for (std::int64_t heads : {1, 8, 16, 20, 128})
          if (heads == 16 || page == 32)
            test({mla(dtype, page), heads, lengths, 4.0f, heads == 16 && page != 64 ? 2 : 1}, cache);
      });
    }
  const KvShape narrow{AttentionKind::mla, 1, 96, 64, 32, DType::fp8};
  Cache cache(narrow, {45});
  cache.append_random();
  on_every_isa([&] { test({narrow, 16, {45}, 4.0f}, cache); });
}

TEST_CASE("history: what attention reads is unit_value, in every layout") {
  for (const KvShape& shape : {gqa(2, 64), gqa(2, 64, DType::fp8), gqa(1, 128, DType::bf16, 7),
                               gqa(1, 64, DType::fp8, 7), gqa(1, 48, DType::fp8), mla(), mla(DType::fp8),
                               mla(DType::fp8, 7), KvShape{AttentionKind::mla, 1, 96, 64, 32, DType::fp8}}) {
    const std::int64_t tokens = 75;
    const HistorySlice history{7,
                               3,
                               5,
                               2,
                               shape.kind == AttentionKind::mla ? 0 : 1,
                               shape.kind == AttentionKind::mla ? 1 : 8,
                               1'000'000'000'000,
                               tokens};
    // The same cache by kv_append: every valid slot must have equal bits, so equal attention bits.
    Cache appended(shape, {tokens, tokens}), filled(shape, {tokens, tokens});
    for (std::int64_t b = 0; b < 2; ++b)
      for (std::int64_t t = 0; t < tokens; ++t) {
        std::vector<BF16> k, v;
        for (std::int64_t h = 0; h < shape.kv_heads; ++h) {
          const auto row = [&](Tensor tensor) {
            return synthetic::row_key(
                synthetic::tensor_key(7, static_cast<std::uint32_t>(tensor), 3,
                                      static_cast<std::uint32_t>((5 + b) * history.global_kv_heads +
                                                                 history.first_kv_head + h)),
                history.first_position + t);
          };
          for (std::uint32_t d = 0; d < shape.head_dim; ++d)
            k.push_back(to_bf16(synthetic::unit_value(row(Tensor::history_k), d)));
          for (std::uint32_t d = 0; d < shape.v_dim; ++d)
            v.push_back(to_bf16(synthetic::unit_value(row(Tensor::history_v), d)));
        }
        appended.append(b, t, k, v);
      }
    on_every_isa([&] {
      for (int threads : {1, 2}) {
        cpu::kv_fill_history(filled.view(), history, threads);
        const std::int64_t q_heads = 2 * shape.kv_heads;
        // Sharp softmax rows, so that single tokens show.
        const std::vector<BF16> q = appended.random_row(2 * q_heads * shape.head_dim, 30.0f);
        const AttentionResult a = run(appended, q_heads, 1.0f, q, 1), b = run(filled, q_heads, 1.0f, q, 1);
        REQUIRE(std::memcmp(a.o.data(), b.o.data(), a.o.size() * sizeof(BF16)) == 0);
        REQUIRE(std::memcmp(a.lse.data(), b.lse.data(), a.lse.size() * sizeof(float)) == 0);
      }
    });
  }
}

}  // namespace helix
