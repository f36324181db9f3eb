// A paged KV cache on the CPU beside the same values in plain arrays, and attention over it checked against
// fp64. Page tables are shuffled and end in invalid entries, slots past a request's length hold NaN.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/attention.hpp"
#include "kernels/cpu/isa.hpp"
#include "kernels/fp8.hpp"
#include "kernels/reference/attention.hpp"
#include "kernels/synthetic.hpp"

namespace helix {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

struct Aligned {
  explicit Aligned(std::size_t bytes)
      : data(static_cast<std::byte*>(std::aligned_alloc(4096, (bytes + 8191) / 4096 * 4096))) {}
  ~Aligned() { std::free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  std::byte* data;
};

struct Case {
  KvShape shape;
  std::int64_t group = 4;
  std::vector<std::int64_t> lengths;
  float q_scale = 1.0f;
  int threads = 1;
};

inline KvShape gqa(std::int64_t kv_heads, std::int64_t dim, DType dtype = DType::bf16, int page = 32) {
  return {AttentionKind::gqa, kv_heads, dim, dim, page, dtype};
}
inline KvShape mla(DType dtype = DType::bf16, int page = 32) {
  return {AttentionKind::mla, 1, 576, 512, page, dtype};
}

/// A cache in shuffled pages, filled token by token with kv_append, beside the same values in plain arrays.
class PagedCache {
 public:
  explicit PagedCache(const KvShape& shape, std::vector<std::int64_t> lengths, std::uint32_t seed = 1)
      : shape_(shape), lengths_(std::move(lengths)), random_(seed) {
    std::int64_t pages = 0;
    for (std::int64_t length : lengths_) {
      pages += page_count(length);
      max_pages_ = std::max(max_pages_, page_count(length) + 2);
    }
    page_bytes_ = cpu::kv_page_bytes(shape);
    storage_ = std::make_unique<Aligned>(page_bytes_ * static_cast<std::size_t>(pages));
    std::memset(storage_->data, 0xff, page_bytes_ * static_cast<std::size_t>(pages));  // NaN in bf16 and e4m3
    std::vector<std::int32_t> ids(static_cast<std::size_t>(pages));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random_);
    for (std::size_t b = 0, used = 0; b < lengths_.size(); ++b)
      for (std::int64_t p = 0; p < max_pages_; ++p)
        table_.push_back(p < page_count(lengths_[b]) ? ids[used++]
                         : p % 2                     ? std::numeric_limits<std::int32_t>::min()
                                                     : std::numeric_limits<std::int32_t>::max());
    for (std::int64_t length : lengths_) {
      k_.emplace_back(static_cast<std::size_t>(length * k_width()));
      v_.emplace_back(static_cast<std::size_t>(length * v_width()));
    }
  }

  KvView view() const {
    return {shape_, storage_->data, page_bytes_, table_.data(), max_pages_, lengths_.data()};
  }

  void append_random(float k_scale = 1.0f) {
    for (std::size_t b = 0; b < lengths_.size(); ++b)
      for (std::int64_t t = 0; t < lengths_[b]; ++t)
        append(static_cast<std::int64_t>(b), t, random_row(k_width(), k_scale), random_row(v_width(), 1.0f));
  }

  void append(std::int64_t request, std::int64_t token, const std::vector<BF16>& k,
              const std::vector<BF16>& v) {
    cpu::kv_append(view().from_request(request), 1, &token, k.data(), k_width(), v.data(), v_width());
    for (std::int64_t d = 0; d < k_width(); ++d) k_[request][token * k_width() + d] = stored(k[d]);
    for (std::int64_t d = 0; d < v_width(); ++d) v_[request][token * v_width() + d] = stored(v[d]);
  }

  std::vector<BF16> random_row(std::int64_t width, float scale) {
    std::uniform_real_distribution<float> uniform(-scale, scale);
    std::vector<BF16> row(static_cast<std::size_t>(width));
    for (BF16& x : row) x = to_bf16(uniform(random_));
    return row;
  }

  double k(std::int64_t request, std::int64_t token, std::int64_t head, std::int64_t dim) const {
    return k_[request][token * k_width() + head * shape_.head_dim + dim];
  }
  double v(std::int64_t request, std::int64_t token, std::int64_t head, std::int64_t dim) const {
    return shape_.kind == AttentionKind::mla ? k(request, token, 0, dim)
                                             : v_[request][token * v_width() + head * shape_.v_dim + dim];
  }
  const std::vector<std::int64_t>& lengths() const { return lengths_; }

 private:
  std::int64_t page_count(std::int64_t tokens) const {
    return (tokens + shape_.tokens_per_page - 1) / shape_.tokens_per_page;
  }
  std::int64_t k_width() const { return shape_.kv_heads * shape_.head_dim; }
  std::int64_t v_width() const {
    return shape_.kind == AttentionKind::mla ? 0 : shape_.kv_heads * shape_.v_dim;
  }
  float stored(BF16 x) const {
    return shape_.dtype == DType::fp8 ? synthetic::stored_fp8(to_float(x)) : to_float(x);
  }

  KvShape shape_;
  std::vector<std::int64_t> lengths_;
  std::mt19937 random_;
  std::int64_t max_pages_ = 1;
  std::size_t page_bytes_ = 0;
  std::unique_ptr<Aligned> storage_;
  std::vector<std::int32_t> table_;
  std::vector<std::vector<float>> k_, v_;
};

struct Result {
  std::vector<BF16> o;
  std::vector<float> lse;
};

inline Result run(const PagedCache& cache, std::int64_t q_heads, float scale, const std::vector<BF16>& q,
                  int threads) {
  const KvView view = cache.view();
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  Result result{
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

// Largest difference over the largest value of the head's exact row. bf16 probabilities have relative errors
// up to 2^-9, which add up like |p| |v|; the output is rounded once more by up to 2^-9.
inline void check(const PagedCache& cache, std::int64_t q_heads, float scale, const std::vector<BF16>& q,
                  const Result& result) {
  const KvShape shape = cache.view().shape;
  for (std::size_t b = 0; b < cache.lengths().size(); ++b) {
    const auto request = static_cast<std::int64_t>(b);
    const std::int64_t tokens = cache.lengths()[b];
    std::vector<double> q_exact, o(static_cast<std::size_t>(q_heads * shape.v_dim)),
        lse(static_cast<std::size_t>(q_heads));
    for (std::int64_t i = 0; i < q_heads * shape.head_dim; ++i)
      q_exact.push_back(to_float(q[request * q_heads * shape.head_dim + i]));
    reference_attention({tokens, q_heads, shape.kv_heads, shape.head_dim, shape.v_dim, scale,
                         [&](auto t, auto h, auto d) { return cache.k(request, t, h, d); },
                         [&](auto t, auto h, auto d) { return cache.v(request, t, h, d); }},
                        q_exact.data(), o.data(), lse.data());
    for (std::int64_t h = 0; h < q_heads; ++h) {
      const float got_lse = result.lse[request * q_heads + h];
      const BF16* const got = &result.o[(request * q_heads + h) * shape.v_dim];
      if (tokens == 0) {
        REQUIRE(got_lse == -infinity);
        for (std::int64_t d = 0; d < shape.v_dim; ++d) REQUIRE(std::isnan(to_float(got[d])));
        continue;
      }
      // Of fp32 sums of head_dim products, and of `tokens` probabilities in rows of lanes.
      const double lse_error = std::fabs(got_lse - lse[h]);
      INFO("request " << b << " of " << tokens << " tokens, head " << h << ", lse " << got_lse << " not "
                      << lse[h]);
      if (!(lse_error <= 1e-3 + 1e-6 * std::fabs(lse[h]))) FAIL();
      double error = 0.0, largest = 0.0;
      for (std::int64_t d = 0; d < shape.v_dim; ++d) {
        const double x = to_float(got[d]), exact = o[h * shape.v_dim + d];
        error = std::isnan(x) ? infinity : std::max(error, std::fabs(x - exact) - std::fabs(exact) / 512.0);
        largest = std::max(largest, std::fabs(exact));
      }
      INFO("error " << error << " of " << largest);
      if (!(error <= 4e-3 * largest)) FAIL();
    }
  }
}

inline void test(const Case& c, PagedCache& cache) {
  const std::int64_t q_heads = c.group * c.shape.kv_heads;
  const auto batch = static_cast<std::int64_t>(c.lengths.size());
  const std::vector<BF16> q = cache.random_row(batch * q_heads * c.shape.head_dim, c.q_scale);
  const float scale = 1.0f / std::sqrt(static_cast<float>(c.shape.head_dim));
  INFO("isa " << name(best_isa()) << " dim " << c.shape.head_dim << " group " << c.group << " page "
              << c.shape.tokens_per_page << ' ' << name(c.shape.dtype) << " threads " << c.threads);
  check(cache, q_heads, scale, q, run(cache, q_heads, scale, q, c.threads));
}

template <typename Body>
void on_every_isa(const Body& body) {
  for (Isa isa : available_isas()) {
    set_isa_cap(isa);
    body();
  }
  set_isa_cap(Isa::amx);
}

}  // namespace helix
