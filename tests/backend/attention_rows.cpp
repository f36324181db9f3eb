// Flash-decode of several tokens of each request against fp64: every row sees its own share of the last tokens.
#include "backend/paged_cache.hpp"

using namespace helix;
using namespace helix::testing;

namespace {

/// As on a rank that keeps the step's last `kept` tokens of each request, or its first ones.
RowLengths staggered(const PagedCache& cache, std::int64_t query_tokens, std::int64_t kept, bool last) {
  RowLengths rows{query_tokens, {}};
  for (const std::int64_t all : cache.lengths()) {
    const std::int64_t of_step = std::min(all, kept), before = all - of_step;
    for (std::int64_t j = 0; j < query_tokens; ++j)
      rows.lengths.push_back(
          before + std::clamp<std::int64_t>(last ? j + 1 - (query_tokens - of_step) : j + 1, 0, of_step));
  }
  return rows;
}

void check_rows(PagedCache& cache, std::int64_t group, std::initializer_list<std::int64_t> query_tokens) {
  for (const std::int64_t q : query_tokens)
    for (const std::int64_t kept : {std::int64_t{0}, q / 2, q})
      for (const bool last : {false, true}) {
        INFO(q << " rows a request, of whose tokens " << kept << " are here, the "
               << (last ? "last" : "first"));
        check_random_queries(cache, staggered(cache, q, kept, last), group);
      }
}

}  // namespace

TEST_CASE("backend: attention: several rows a request, at the borders of pages and tiles") {
  for (const DType dtype : kv_types())
    for (const int page : {1, 4, 24, 32}) {
      if (emulated() && page == 24 && dtype != DType::bf16) continue;
      PagedCache cache(gqa(2, 64, dtype, page), {0, 1, 5, 8, 16, 17, 33, 40, page == 1 ? 60 : 300});
      cache.append_random();
      on_every_path([&] { check_rows(cache, 2, {2, 8}); });
    }
}

TEST_CASE("backend: attention: from one to eight rows a request") {
  for (const std::int64_t dim : {64, 128, 256}) {
    PagedCache cache(gqa(1, dim), {257, 3});
    cache.append_random();
    on_every_path([&] {
      check_rows(cache, 4, {1, 2, 3, 4, 5, 6, 7, 8});
      if (dim == 128) check_rows(cache, 17, {3});
    });
  }
}

TEST_CASE("backend: attention: several rows a request, narrow heads of small models") {
  for (const KvShape& shape : {KvShape{AttentionKind::gqa, 2, 48, 16, 32, DType::bf16},
                               KvShape{AttentionKind::mla, 1, 96, 64, 32, DType::bf16}}) {
    if (!runs(shape)) continue;
    PagedCache cache(shape, {100, 1});
    cache.append_random();
    on_every_path([&] { check_rows(cache, 3, {4}); });
  }
}

TEST_CASE("backend: attention: several rows a request, MLA") {
  for (const DType dtype : kv_types()) {
    PagedCache cache(mla(dtype, dtype == DType::bf16 ? 32 : 4), {1, 100, 0, 33});
    cache.append_random();
    on_every_path([&] { check_rows(cache, 10, {2}); });
    if (!emulated() && dtype == DType::bf16) on_every_path([&] { check_rows(cache, 16, {8}); });
  }
}

TEST_CASE("backend: attention: several rows a request, in every order of threads") {
  PagedCache cache(gqa(3, 64), {70, 0, 2, 150});
  cache.append_random();
  on_every_path([&] { in_every_order_of_threads([&] { check_rows(cache, 3, {4}); }); });
}

TEST_CASE("backend: kv_append_new: the same bytes as of a norm, a rotation and an append") {
  for (const DType dtype : kv_types()) {
    struct Case {
      KvShape shape;
      std::int64_t normed, rotated, rope_dim;
      bool interleaved;
    };
    for (const Case& c : {Case{gqa(2, 64, dtype), 0, 0, 64, false}, Case{gqa(3, 128, dtype), 0, 0, 64, false},
                          Case{gqa(1, 256, dtype), 0, 0, 256, true}, Case{gqa(1, 64, dtype), 0, 0, 0, false},
                          Case{mla(dtype, 4), 512, 512, 64, true}, Case{mla(dtype, 4), 0, 512, 64, false}}) {
      const KvShape& shape = c.shape;
      const bool latent = shape.kind == AttentionKind::mla;
      PagedCache one(shape, {40, 8}), three(shape, {40, 8});
      const std::int64_t q = 3, rows = 2 * q, k_width = shape.kv_heads * shape.head_dim,
                         v_width = latent ? 0 : shape.kv_heads * shape.v_dim, ld = k_width + v_width + 8;
      const std::vector<BF16> qkv = one.random_row(rows * ld, 2.0f);
      std::vector<float> frequencies;
      for (std::int64_t i = 0; i < std::max<std::int64_t>(1, c.rope_dim / 2); ++i)
        frequencies.push_back(std::pow(1e4f, -2.0f * static_cast<float>(i) / 64));
      const DeviceVector<std::int64_t> slots(std::vector<std::int64_t>{39, -1, 0, -1, 7, 3}),
          positions(std::vector<std::int64_t>{5, 6, 7, 1'048'575, 1'048'576, 1'048'577});
      const DeviceVector<BF16> gain(one.random_row(std::max<std::int64_t>(1, c.normed), 1.0f));
      const DeviceVector<float> inv_freq(frequencies);
      const auto append = [&](const PagedCache& cache, bool separately) {
        const DeviceVector<BF16> in(qkv);
        KvView view = cache.view();
        view.query_tokens = q;
        const NewTokens tokens{.positions = positions.data(),
                               .slots = slots.data(),
                               .k = in.data(),
                               .ldk = ld,
                               .v = latent ? nullptr : in.data() + k_width,
                               .ldv = ld,
                               .gain = c.normed > 0 ? gain.data() : nullptr,
                               .normed = c.normed,
                               .eps = 1e-6f,
                               .rope = {.inv_freq = inv_freq.data(),
                                        .rope_dim = c.rope_dim,
                                        .amplitude = 1.25f,
                                        .interleaved = c.interleaved},
                               .rotated = c.rotated};
        if (separately) return device().DecodeOps::kv_append_new(view, 2, tokens);
        device().kv_append_new(view, 2, tokens);
      };
      append(one, false);
      append(three, true);
      INFO(shape.head_dim << ' ' << name(dtype) << " rotated " << c.rope_dim << " normed " << c.normed);
      const bool same_bytes = one.pages() == three.pages(),
                 written = one.pages() != PagedCache(shape, {40, 8}).pages();
      REQUIRE(same_bytes);
      REQUIRE(written);
    }
  }
}

TEST_CASE("backend: kv_append: the rows of a step that this rank keeps") {
  for (const DType dtype : kv_types()) {
    const KvShape shape = gqa(2, 64, dtype);
    PagedCache expected(shape, {40, 8}), rows(shape, {40, 8});
    const std::int64_t width = shape.kv_heads * shape.head_dim, q = 3;
    const std::vector<std::int64_t> slots{39, -1, 0, -1, 7, -1};
    std::vector<BF16> k, v;
    for (std::size_t r = 0; r < slots.size(); ++r) {
      const std::vector<BF16> k_row = expected.random_row(width, 1.0f),
                              v_row = expected.random_row(width, 1.0f);
      if (slots[r] >= 0) expected.append(static_cast<std::int64_t>(r) / q, slots[r], k_row, v_row);
      k.insert(k.end(), k_row.begin(), k_row.end());
      v.insert(v.end(), v_row.begin(), v_row.end());
    }
    const DeviceVector<std::int64_t> at(slots);
    const DeviceVector<BF16> k_in(k), v_in(v);
    KvView view = rows.view();
    view.query_tokens = q;
    device().kv_append(view, 2, at.data(), k_in.data(), width, v_in.data(), width);
    const bool same_bytes = rows.pages() == expected.pages();
    REQUIRE(same_bytes);
  }
}
