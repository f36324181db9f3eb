// Flash-decode against fp64 where numbers are difficult: extreme logits, exact cases, long sums.
#include "backend/paged_cache.hpp"

using namespace helix;
using namespace helix::testing;

TEST_CASE("backend: attention: one token is exact") {
  for (const KvShape& shape : {gqa(2, 128), mla()}) {
    PagedCache cache(shape, {1});
    cache.append_random();
    const std::int64_t q_heads = 4 * shape.kv_heads;
    const std::vector<BF16> q = cache.random_row(q_heads * shape.head_dim, 1.0f);
    on_every_path([&] {
      const AttentionResult result = attend(cache, q_heads, 0.1f, q);
      for (std::int64_t h = 0; h < q_heads; ++h)
        for (std::int64_t d = 0; d < shape.v_dim; ++d)
          REQUIRE(to_float(result.o[h * shape.v_dim + d]) == cache.v(0, 0, h / 4, d));
    });
  }
}

TEST_CASE("backend: attention: every fp8 value comes back from the cache") {
  check_fp8_values([](float value) { return !std::isnan(value); });
}

TEST_CASE("backend: attention: huge, tiny and infinite logits") {
  for (const KvShape& shape : {gqa(1, 64), mla()}) {
    const std::int64_t heads = 4;
    const auto with_k = [&](auto set_k, float q_value) {
      PagedCache cache(shape, {600});
      for (std::int64_t t = 0; t < 600; ++t) {
        std::vector<BF16> k = cache.random_row(shape.head_dim, 0.5f);
        set_k(t, k);
        cache.append(0, t, k, cache.random_row(shape.v_dim, 1.0f));
      }
      const std::vector<BF16> q(static_cast<std::size_t>(heads * shape.head_dim), to_bf16(q_value));
      on_every_path([&] { check_attention(cache, heads, 1.0f, q, attend(cache, heads, 1.0f, q)); });
    };
    // One token's logit of +-1e30 times the row's width.
    for (const float sign : {1.0f, -1.0f})
      with_k(
          [&](std::int64_t t, std::vector<BF16>& k) {
            if (t == 590) std::fill(k.begin(), k.end(), to_bf16(sign * 1e20f));
          },
          1e10f);
    with_k([](std::int64_t, std::vector<BF16>& k) { std::fill(k.begin(), k.end(), to_bf16(0.0f)); }, 1e-30f);
    // Masked tokens: logits of -inf, alone in a first chunk and later.
    with_k(
        [](std::int64_t t, std::vector<BF16>& k) {
          if (t < 512 || t == 550) k.back() = to_bf16(-std::numeric_limits<float>::infinity());
        },
        0.125f);
  }
}

TEST_CASE("backend: attention: logits that grow from token to token") {
  // The maximum outgrows what was summed, again and again within a chunk and across chunks.
  for (const KvShape& shape : {gqa(1, 64), gqa(1, 64, DType::fp8), mla(), mla(DType::fp8)})
    for (const std::int64_t heads : {4, 40}) {
      PagedCache cache(shape, {600});
      for (std::int64_t t = 0; t < 600; ++t) {
        std::vector<BF16> k = cache.random_row(shape.head_dim, 0.5f);
        k.back() = to_bf16(0.25f * static_cast<float>(t));
        cache.append(0, t, k, cache.random_row(shape.v_dim, 1.0f));
      }
      // Heads that grow by different factors, and some that shrink.
      std::vector<BF16> q = cache.random_row(heads * shape.head_dim, 0.25f);
      for (std::int64_t h = 0; h < heads; ++h)
        q[(h + 1) * shape.head_dim - 1] = to_bf16(2.0f - 0.125f * static_cast<float>(h));
      on_every_path([&] { check_attention(cache, heads, 1.0f, q, attend(cache, heads, 1.0f, q)); });
    }
}

TEST_CASE("backend: attention: tokens that weigh 2^-26 of the best are not lost") {
  std::vector<KvShape> shapes;
  for (const DType dtype : kv_types()) shapes.insert(shapes.end(), {gqa(1, 64, dtype), mla(dtype)});
  for (const KvShape& shape : shapes) {
    const std::int64_t tokens = 300;
    PagedCache cache(shape, {tokens});
    const auto row = [&](std::int64_t width, float last, float others) {
      std::vector<BF16> x(static_cast<std::size_t>(width - 1), to_bf16(others));
      x.push_back(to_bf16(last));
      return x;
    };
    cache.append(0, 0, row(shape.head_dim, 18.0f, 0.0f), row(shape.v_dim, 0.0f, 0.0f));
    for (std::int64_t t = 1; t < tokens; ++t)
      cache.append(0, t, row(shape.head_dim, 0.0f, 1.0f), row(shape.v_dim, 1.0f, 1.0f));
    const double light = static_cast<double>(tokens - 1) * std::exp(-18.0);
    const double expected = light / (1.0 + light) * cache.v(0, 1, 0, 0);
    on_every_path([&] {
      const AttentionResult result = attend(cache, 1, 1.0f, row(shape.head_dim, 1.0f, 0.0f));
      CAPTURE(name(shape.dtype), shape.head_dim);
      for (const BF16 o : result.o) REQUIRE(std::fabs(to_float(o) / expected - 1.0) < 0.02);
    });
  }
}

TEST_CASE("backend: attention: nothing but -inf logits is an empty shard") {
  PagedCache cache(gqa(1, 64), {40});
  for (std::int64_t t = 0; t < 40; ++t)
    cache.append(0, t, std::vector<BF16>(64, to_bf16(-std::numeric_limits<float>::infinity())),
                 cache.random_row(64, 1.0f));
  const std::vector<BF16> q(64, to_bf16(1.0f));
  on_every_path([&] { REQUIRE(attend(cache, 1, 1.0f, q).lse[0] == -infinity); });
}

TEST_CASE("backend: attention: a NaN in a valid token is not hidden") {
  for (const KvShape& shape : {gqa(1, 64), mla()}) {
    PagedCache cache(shape, {100});
    cache.append_random();
    std::vector<BF16> k = cache.random_row(shape.head_dim, 1.0f);
    k.at(5) = to_bf16(nan_value);
    cache.append(0, 50, k, cache.random_row(shape.v_dim, 1.0f));
    const std::vector<BF16> q = cache.random_row(shape.head_dim, 1.0f);
    on_every_path([&] {
      const AttentionResult result = attend(cache, 1, 1.0f, q);
      REQUIRE(std::isnan(to_float(result.o[0])));
      REQUIRE(std::isnan(result.lse[0]));
    });
  }
}

TEST_CASE("backend: attention: 64K tokens within 2e-3 of fp64 in the norm") {
  const std::int64_t tokens = emulated() ? 8192 : 65536, heads = 4;
  for (const KvShape& shape : {gqa(1, 64), KvShape{AttentionKind::mla, 1, 96, 64, 32, DType::bf16}}) {
    if (!runs(shape)) continue;
    const std::int64_t dim = shape.head_dim, v_dim = shape.v_dim;
    PagedCache cache(shape, {tokens});
    cache.append_random();
    const std::vector<BF16> q = cache.random_row(heads * dim, 4.0f);
    std::vector<double> q_exact;
    for (const BF16 x : q) q_exact.push_back(to_float(x));
    std::vector<double> o(heads * v_dim), lse(heads);
    reference_attention(
        {tokens, heads, 1, dim, v_dim, 0.125, [&](auto t, auto h, auto d) { return cache.k(0, t, h, d); },
         [&](auto t, auto h, auto d) { return cache.v(0, t, h, d); }},
        q_exact.data(), o.data(), lse.data());
    on_every_path([&] {
      const AttentionResult result = attend(cache, heads, 0.125f, q);
      double error = 0.0, norm = 0.0;
      for (std::int64_t h = 0; h < heads; ++h) {
        double head_error = 0.0, head_norm = 0.0;
        for (std::int64_t d = 0; d < v_dim; ++d) {
          const double exact = o[h * v_dim + d], difference = to_float(result.o[h * v_dim + d]) - exact;
          head_error += difference * difference;
          head_norm += exact * exact;
        }
        // On top comes the output's rounding to bf16, 2^-9 at most.
        INFO("head " << h << " error " << std::sqrt(head_error / head_norm));
        REQUIRE(std::sqrt(head_error) <= (2e-3 + 0x1p-9) * std::sqrt(head_norm));
        REQUIRE(std::fabs(result.lse[h] - lse[h]) <= 1e-4);
        error += head_error;
        norm += head_norm;
      }
      // Over all heads the GPU's kernel keeps it rounding included.
      if (device().name() != "cpu") REQUIRE(std::sqrt(error) < 2e-3 * std::sqrt(norm));
    });
  }
}
