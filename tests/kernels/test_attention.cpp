// Flash-decode on the CPU against fp64, on every instruction set of this machine. Page tables are shuffled
// and end in invalid entries, slots past a request's length hold NaN.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/fp8.hpp"
#include "kernels/reference/attention.hpp"
#include "kernels/synthetic.hpp"
#include "kernels/tensor_ids.hpp"
#include "paged_cache.hpp"

namespace helix {
namespace {

struct Aligned {
  explicit Aligned(std::size_t bytes)
      : data(static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 8191) / 4096 * 4096))) {}
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  std::byte* data;
};

struct Cpu {
  template <typename T>
  class Array {
   public:
    explicit Array(const std::vector<T>& values) : memory_(values.size() * sizeof(T)) {
      std::copy(values.begin(), values.end(), data());
    }
    T* data() const { return reinterpret_cast<T*>(memory_.data); }

   private:
    Aligned memory_;
  };
  static std::size_t kv_page_bytes(const KvShape& shape) { return cpu::kv_page_bytes(shape); }
  static void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
                        std::int64_t ldk, const BF16* v, std::int64_t ldv) {
    cpu::kv_append(cache, batch, slots, k, ldk, v, ldv);
  }
};
using Cache = PagedCache<Cpu>;

struct Case {
  KvShape shape;
  std::int64_t group = 4;
  std::vector<std::int64_t> lengths;
  float q_scale = 1.0f;
  int threads = 1;
};

AttentionResult run(const Cache& cache, std::int64_t q_heads, float scale, const std::vector<BF16>& q,
                    int threads) {
  const KvView view = cache.view();
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  AttentionResult result{
      std::vector<BF16>(static_cast<std::size_t>(batch * q_heads * view.shape.v_dim), to_bf16(nan_value)),
      std::vector<float>(static_cast<std::size_t>(batch * q_heads), nan_value)};
  const std::size_t bytes = cpu::attention_scratch_bytes(view.shape, batch, q_heads, threads);
  const Aligned scratch(bytes + 64);
  std::memset(scratch.data, 0xff, bytes + 64);
  cpu::attention(view, batch, q_heads, scale, q.data(), result.o.data(), result.lse.data(), scratch.data,
                 threads);
  for (std::size_t i = bytes; i < bytes + 64; ++i) REQUIRE(scratch.data[i] == std::byte{0xff});
  return result;
}

void test(const Case& c, Cache& cache) {
  const std::int64_t q_heads = c.group * c.shape.kv_heads;
  const auto batch = static_cast<std::int64_t>(c.lengths.size());
  const std::vector<BF16> q = cache.random_row(batch * q_heads * c.shape.head_dim, c.q_scale);
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.shape.head_dim));
  INFO("isa " << name(best_isa()) << " dim " << c.shape.head_dim << " group " << c.group << " page "
              << c.shape.tokens_per_page << ' ' << name(c.shape.dtype) << " threads " << c.threads);
  check_attention(cache, q_heads, scale, q, run(cache, q_heads, scale, q, c.threads));
}

template <typename Body>
void on_every_isa(const Body& body) {
  for (Isa isa : available_isas()) {
    set_isa_cap(isa);
    body();
  }
  set_isa_cap(Isa::amx);
}

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

TEST_CASE("attention: nothing but -inf logits is an empty shard") {
  Cache cache(gqa(1, 64), {40});
  for (std::int64_t t = 0; t < 40; ++t)
    cache.append(0, t, std::vector<BF16>(64, to_bf16(-std::numeric_limits<float>::infinity())),
                 cache.random_row(64, 1.0f));
  const std::vector<BF16> q(64, to_bf16(1.0f));
  on_every_isa([&] { REQUIRE(run(cache, 1, 1.0f, q, 1).lse[0] == -infinity); });
}

TEST_CASE("attention: a NaN in a valid token is not hidden") {
  Cache cache(gqa(1, 64), {100});
  cache.append_random();
  std::vector<BF16> k = cache.random_row(64, 1.0f);
  k[5] = to_bf16(nan_value);
  cache.append(0, 50, k, cache.random_row(64, 1.0f));
  const std::vector<BF16> q = cache.random_row(64, 1.0f);
  on_every_isa([&] { REQUIRE(std::isnan(to_float(run(cache, 1, 1.0f, q, 1).o[0]))); });
}

TEST_CASE("attention: 64K tokens within 2e-3 of fp64 in the norm") {
  const std::int64_t tokens = 65536, group = 4, dim = 64;
  const KvShape shape = gqa(1, dim);
  Cache cache(shape, {tokens});
  cache.append_random();
  const std::vector<BF16> q = cache.random_row(group * dim, 4.0f);
  const std::vector<double> q_exact = [&] {
    std::vector<double> values;
    for (BF16 x : q) values.push_back(to_float(x));
    return values;
  }();
  std::vector<double> o(group * dim), lse(group);
  reference_attention(
      {tokens, group, 1, dim, dim, 0.125, [&](auto t, auto h, auto d) { return cache.k(0, t, h, d); },
       [&](auto t, auto h, auto d) { return cache.v(0, t, h, d); }},
      q_exact.data(), o.data(), lse.data());
  on_every_isa([&] {
    if (best_isa() == Isa::portable) return;  // emulated vectors are slow, and the sums are those of avx2
    const AttentionResult result = run(cache, group, 0.125f, q, 1);
    for (std::int64_t h = 0; h < group; ++h) {
      double error = 0.0, norm = 0.0, rounding = 0.0;
      for (std::int64_t d = 0; d < dim; ++d) {
        const double exact = o[h * dim + d], difference = to_float(result.o[h * dim + d]) - exact;
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
