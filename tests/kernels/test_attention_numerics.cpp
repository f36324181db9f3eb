// Flash-decode on the CPU against fp64 where numbers are difficult: extreme logits, exact cases, long sums,
// splits over threads.
#include "tests/kernels/cpu_attention.hpp"

namespace helix {

TEST_CASE("attention: one token is exact") {
  for (const KvShape& shape : {gqa(2, 128), mla()}) {
    Cache cache(shape, {1});
    cache.append_random();
    const std::int64_t q_heads = 4 * shape.kv_heads;
    const std::vector<BF16> q = cache.random_row(q_heads * shape.head_dim, 1.0f);
    on_every_isa([&] {
      const AttentionResult result = run(cache, q_heads, 0.1f, q, 1);
      for (std::int64_t h = 0; h < q_heads; ++h)
        for (std::int64_t d = 0; d < shape.v_dim; ++d)
          REQUIRE(to_float(result.o[h * shape.v_dim + d]) == cache.v(0, 0, h / 4, d));
    });
  }
}

TEST_CASE("attention: every fp8 value comes back from the cache, NaN too") {
  const std::int64_t dim = 256;
  Cache cache(gqa(1, dim, DType::fp8), {1});
  std::vector<BF16> v;
  for (int bits = 0; bits < dim; ++bits) v.push_back(to_bf16(to_float(FP8{static_cast<std::uint8_t>(bits)})));
  cache.append(0, 0, cache.random_row(dim, 1.0f), v);
  const std::vector<BF16> q = cache.random_row(4 * dim, 1.0f);
  on_every_isa([&] {
    const AttentionResult result = run(cache, 4, 0.1f, q, 1);
    for (std::size_t i = 0; i < result.o.size(); ++i) {
      const float got = to_float(result.o[i]), stored = to_float(v[i % static_cast<std::size_t>(dim)]);
      INFO("fp8 bits " << i % static_cast<std::size_t>(dim));
      REQUIRE((std::isnan(stored) ? std::isnan(got) : got == stored));
    }
  });
}

TEST_CASE("attention: huge, tiny and infinite logits") {
  for (const KvShape& shape : {gqa(1, 64), mla()}) {
    const std::int64_t heads = 4;
    const auto with_k = [&](auto set_k, float q_value) {
      Cache cache(shape, {300});
      for (std::int64_t t = 0; t < 300; ++t) {
        std::vector<BF16> k = cache.random_row(shape.head_dim, 0.5f);
        set_k(t, k);
        cache.append(0, t, k, cache.random_row(shape.v_dim, 1.0f));
      }
      const std::vector<BF16> q(static_cast<std::size_t>(heads * shape.head_dim), to_bf16(q_value));
      on_every_isa([&] { check_attention(cache, heads, 1.0f, q, run(cache, heads, 1.0f, q, 2)); });
    };
    // One token's logit of +-1e30 times the row's width.
    for (float sign : {1.0f, -1.0f})
      with_k(
          [&](std::int64_t t, std::vector<BF16>& k) {
            if (t == 290) std::fill(k.begin(), k.end(), to_bf16(sign * 1e20f));
          },
          1e10f);
    with_k([](std::int64_t, std::vector<BF16>& k) { std::fill(k.begin(), k.end(), to_bf16(0.0f)); }, 1e-30f);
    // Masked tokens: logits of -inf, alone in a first chunk and later.
    with_k(
        [](std::int64_t t, std::vector<BF16>& k) {
          if (t < 256 || t == 280) k.back() = to_bf16(-std::numeric_limits<float>::infinity());
        },
        0.125f);
  }
}

TEST_CASE("attention: logits that grow from token to token") {
  // The maximum outgrows what was summed, again and again within a chunk and across chunks.
  for (const KvShape& shape : {gqa(1, 64), mla(), mla(DType::fp8)})
    for (std::int64_t heads : {4, 40}) {
      Cache cache(shape, {300});
      for (std::int64_t t = 0; t < 300; ++t) {
        std::vector<BF16> k = cache.random_row(shape.head_dim, 0.5f);
        k.back() = to_bf16(0.25f * static_cast<float>(t));
        cache.append(0, t, k, cache.random_row(shape.v_dim, 1.0f));
      }
      // Heads that grow by different factors, and some that shrink.
      std::vector<BF16> q = cache.random_row(heads * shape.head_dim, 0.25f);
      for (std::int64_t h = 0; h < heads; ++h)
        q[(h + 1) * shape.head_dim - 1] = to_bf16(2.0f - 0.125f * static_cast<float>(h));
      on_every_isa([&] { check_attention(cache, heads, 1.0f, q, run(cache, heads, 1.0f, q, 2)); });
    }
}

TEST_CASE("attention: nothing but -inf logits is an empty shard") {
  Cache cache(gqa(1, 64), {40});
  for (std::int64_t t = 0; t < 40; ++t)
    cache.append(0, t, std::vector<BF16>(64, to_bf16(-std::numeric_limits<float>::infinity())),
                 cache.random_row(64, 1.0f));
  const std::vector<BF16> q(64, to_bf16(1.0f));
  on_every_isa([&] { REQUIRE(run(cache, 1, 1.0f, q, 1).lse[0] == -infinity); });
}

TEST_CASE("attention: a NaN in a valid token is not hidden") {
  for (const KvShape& shape : {gqa(1, 64), mla()}) {
    Cache cache(shape, {100});
    cache.append_random();
    std::vector<BF16> k = cache.random_row(shape.head_dim, 1.0f);
    k.at(5) = to_bf16(nan_value);
    cache.append(0, 50, k, cache.random_row(shape.v_dim, 1.0f));
    const std::vector<BF16> q = cache.random_row(shape.head_dim, 1.0f);
    on_every_isa([&] { REQUIRE(std::isnan(to_float(run(cache, 1, 1.0f, q, 1).o[0]))); });
  }
}

TEST_CASE("attention: 64K tokens within 2e-3 of fp64 in the norm") {
  const std::int64_t tokens = 65536, heads = 4;
  for (const KvShape& shape : {gqa(1, 64), KvShape{AttentionKind::mla, 1, 96, 64, 32, DType::bf16}}) {
    const std::int64_t dim = shape.head_dim, v_dim = shape.v_dim;
    Cache cache(shape, {tokens});
    cache.append_random();
    const std::vector<BF16> q = cache.random_row(heads * dim, 4.0f);
    std::vector<double> q_exact;
    for (BF16 x : q) q_exact.push_back(to_float(x));
    std::vector<double> o(heads * v_dim), lse(heads);
    reference_attention(
        {tokens, heads, 1, dim, v_dim, 0.125, [&](auto t, auto h, auto d) { return cache.k(0, t, h, d); },
         [&](auto t, auto h, auto d) { return cache.v(0, t, h, d); }},
        q_exact.data(), o.data(), lse.data());
    on_every_isa([&] {
      if (best_isa() == Isa::portable) return;  // emulated vectors are slow, and the sums are those of avx2
      const AttentionResult result = run(cache, heads, 0.125f, q, 1);
      for (std::int64_t h = 0; h < heads; ++h) {
        double error = 0.0, norm = 0.0, rounding = 0.0;
        for (std::int64_t d = 0; d < v_dim; ++d) {
          const double exact = o[h * v_dim + d], difference = to_float(result.o[h * v_dim + d]) - exact;
          error += difference * difference;
          norm += exact * exact;
          rounding += exact * exact / (512.0 * 512.0);
        }
        INFO(name(best_isa()) << " head " << h << " error " << std::sqrt(error / norm));
        REQUIRE(std::sqrt(error) <= 2e-3 * std::sqrt(norm) + std::sqrt(rounding));
        REQUIRE(std::fabs(result.lse[h] - lse[h]) <= 1e-4);
      }
    });
  }
}

TEST_CASE("attention: results do not depend on the number of threads beyond rounding") {
  const KvShape shape = gqa(2, 64);
  Cache cache(shape, {1000, 3, 700});
  cache.append_random();
  const std::vector<BF16> q = cache.random_row(3 * 8 * 64, 4.0f);
  const AttentionResult one = run(cache, 8, 0.125f, q, 1);
  for (int threads : {2, 3, 5}) {
    const AttentionResult many = run(cache, 8, 0.125f, q, threads);
    for (std::size_t i = 0; i < one.o.size(); ++i) {
      const float a = to_float(one.o[i]), b = to_float(many.o[i]);
      // Both are within a rounding to bf16 of sums that differ by bf16 probabilities.
      REQUIRE(std::fabs(a - b) <= 0x1p-7f * std::fabs(a) + 1e-3f);
    }
  }
}

}  // namespace helix
