// Flash-decode against fp64: shapes, page layouts, and the synthetic history.
#include "backend/paged_cache.hpp"
#include "kernels/ops/tensor_ids.hpp"
#include "tests/compare.hpp"

using namespace helix;
using namespace helix::testing;

TEST_CASE("backend: attention: lengths at every edge, in one batch") {
  for (const DType dtype : kv_types()) {
    PagedCache cache(gqa(2, 64, dtype), {0, 1, 2, 15, 16, 17, 31, 32, 33, 0, 255, 256, 257, 1000});
    cache.append_random();
    on_every_path([&] { in_every_order_of_threads([&] { check_random_queries(cache, 4); }); });
  }
}

TEST_CASE("backend: attention: group sizes") {
  PagedCache cache(gqa(1, 64), {257, 40});
  cache.append_random();
  on_every_path([&] {
    for (const std::int64_t group : {1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 24, 33, 128})
      check_random_queries(cache, group);
  });
}

TEST_CASE("backend: attention: page sizes and head dims") {
  for (const int page : {1, 7, 16, 24, 32, 48, 64, 80, 512})
    for (const std::int64_t dim : {64, 128, 256})
      for (const DType dtype : kv_types()) {
        PagedCache cache(gqa(1, dim, dtype, page), {page == 1 ? 40 : 300, 5});
        cache.append_random();
        on_every_path([&] { check_random_queries(cache, page == 24 ? 16 : 4); });
      }
}

TEST_CASE("backend: attention: narrow heads of small models, V narrower than K") {
  for (const DType dtype : kv_types()) {
    for (const KvShape& shape : {KvShape{AttentionKind::gqa, 2, 48, 16, 32, dtype},
                                 KvShape{AttentionKind::gqa, 2, 32, 32, 32, dtype},
                                 KvShape{AttentionKind::mla, 1, 96, 64, 32, dtype}}) {
      if (!runs(shape)) continue;
      PagedCache cache(shape, {100, 1});
      cache.append_random();
      on_every_path([&] {
        for (const std::int64_t group : {3, 16}) check_random_queries(cache, group);
      });
    }
  }
}

TEST_CASE("backend: attention: MLA") {
  for (const DType dtype : kv_types())
    for (const int page : {7, 32, 64}) {
#ifdef __SANITIZE_ADDRESS__
      if (emulated() && page != (dtype == DType::bf16 ? 32 : 7)) continue;
#endif
      PagedCache cache(mla(dtype, page), {1, 290, 0, 33});
      cache.append_random();
      on_every_path([&] {
        for (const std::int64_t heads : {1, 8, 16, 20, 128})
          if (heads == 16 ||
              (page == 32 && !(emulated() && (heads == 8 || (heads == 128 && dtype != DType::bf16)))))
            check_random_queries(cache, heads);
      });
    }
}

TEST_CASE("backend: attention: MLA in every order of threads") {
  PagedCache cache(mla(), {200});
  cache.append_random();
  on_every_path([&] { in_every_order_of_threads([&] { check_random_queries(cache, 33); }); });
  PagedCache narrow(mla(DType::fp8, 24), {300});
  narrow.append_random();
  on_every_path([&] { in_every_order_of_threads([&] { check_random_queries(narrow, 16); }); });
}

TEST_CASE("backend: history: what attention reads is unit_value, in every layout") {
  std::vector<KvShape> shapes;
  for (const DType dtype : kv_types())
    for (const KvShape& shape : {gqa(2, 64, dtype), gqa(1, 128, dtype, 7), gqa(1, 64, dtype, 7),
                                 KvShape{AttentionKind::gqa, 1, 48, 48, 32, dtype}, mla(dtype), mla(dtype, 7),
                                 KvShape{AttentionKind::mla, 1, 96, 64, 32, dtype},
                                 of_others(gqa(2, 64, dtype)), of_others(mla(dtype))})
      if (runs(shape)) shapes.push_back(shape);
  for (const KvShape& shape : shapes) {
    INFO("dim " << shape.head_dim << " page " << shape.tokens_per_page << ' ' << name(shape.dtype) << ' '
                << name(shape.kernels));
    const std::int64_t tokens = 75;
    const bool latent = shape.kind == AttentionKind::mla;
    const HistorySlice history{Tensor::history_k, 7,     3, 5, 2, latent ? 0 : 1, latent ? 1 : 8,
                               1'000'000'000'000, tokens};
    PagedCache appended(shape, {tokens, tokens});
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
    // Sharp softmax rows, so that single tokens show.
    const std::int64_t q_heads = 2 * shape.kv_heads;
    const std::vector<BF16> q = appended.random_row(2 * q_heads * shape.head_dim, 30.0f);
    on_every_path([&] {
      in_every_order_of_threads([&] {
        const PagedCache filled(shape, {tokens, tokens});
        device().kv_fill_history(filled.view(), history);
        if (device().name() != "cpu") {
          const bool same_bytes = filled.pages() == appended.pages();
          REQUIRE(same_bytes);
          return;
        }
        // On the CPU the slots behind a request's last token may differ, but equal slots
        // give equal attention.
        const AttentionResult a = attend(appended, q_heads, 1.0f, q), b = attend(filled, q_heads, 1.0f, q);
        REQUIRE(std::memcmp(a.o.data(), b.o.data(), a.o.size() * sizeof(BF16)) == 0);
        REQUIRE(bits_of(a.lse) == bits_of(b.lse));
      });
    });
  }
}
