// What the cases of flash-decode share: a KV cache in shuffled pages whose tables end in invalid entries and
// whose slots past a request's length hold NaN, the same values in plain arrays, attention over it, and the
// comparison with attention in fp64.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "backend/device_under_test.hpp"
#include "kernels/ops/fp8.hpp"
#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/synthetic.hpp"
#include "kernels/reference/attention.hpp"
#include "roofline/base/error.hpp"

namespace helix::testing {

inline constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
inline constexpr double infinity = std::numeric_limits<double>::infinity();

inline KvShape gqa(std::int64_t kv_heads, std::int64_t dim, DType dtype = DType::bf16, int page = 32) {
  return {AttentionKind::gqa, kv_heads, dim, dim, page, dtype};
}
inline KvShape mla(DType dtype = DType::bf16, int page = 32) {
  return {AttentionKind::mla, 1, 576, 512, page, dtype};
}

/// The same in pages that kernels of other makers read.
inline KvShape of_others(KvShape shape) {
  shape.kernels = KernelMaker::trtllm_gen;
  return shape;
}

/// What a cache of this type holds of a row.
inline std::vector<float> stored_row(const std::vector<BF16>& row, DType dtype) {
  std::vector<float> x;
  for (BF16 v : row) x.push_back(to_float(v));
  if (dtype == DType::fp8)
    for (float& v : x) v = synthetic::stored_fp8(v);
  if (dtype == DType::nvfp4)
    for (std::size_t block = 0; block < x.size(); block += kNvfp4Block) {
      float largest = 0.0f;
      for (std::size_t i = block; i < block + kNvfp4Block; ++i) largest = std::max(largest, std::fabs(x[i]));
      const FP8 scale = nvfp4_scale(largest);
      for (std::size_t i = block; i < block + kNvfp4Block; ++i)
        x[i] = e2m1_to_float(to_nvfp4(x[i], scale)) * to_float(scale);
    }
  return x;
}

/// Has the device kernels for a cache of this shape?
inline bool runs(const KvShape& shape) {
  try {
    return device().kv_page_bytes(shape) > 0;
  } catch (const UsageError&) {
    return false;
  }
}

/// The types of a cache that the device has kernels for.
inline std::vector<DType> kv_types() {
  std::vector<DType> types;
  for (const DType dtype : {DType::bf16, DType::fp8, DType::nvfp4})
    if (runs(gqa(1, 64, dtype))) types.push_back(dtype);
  return types;
}

class PagedCache {
 public:
  explicit PagedCache(const KvShape& shape, std::vector<std::int64_t> lengths, std::uint32_t seed = 1)
      : shape_(shape),
        lengths_(std::move(lengths)),
        random_(seed),
        max_pages_(page_count(*std::max_element(lengths_.begin(), lengths_.end())) + (read_whole() ? 16 : 2)),
        page_bytes_(device().kv_page_bytes(shape)),
        pages_(std::vector<std::byte>(page_bytes_ * static_cast<std::size_t>(total_pages()),
                                      std::byte(read_whole() ? 0 : 0xff))),  // NaN in bf16 and e4m3
        table_(shuffled_table()),
        device_lengths_(lengths_),
        slot_(unwritten, 1),
        k_row_(unwritten, static_cast<std::size_t>(k_width())),
        v_row_(unwritten, static_cast<std::size_t>(v_width())) {
    for (std::int64_t length : lengths_) {
      k_.emplace_back(static_cast<std::size_t>(length * k_width()));
      v_.emplace_back(static_cast<std::size_t>(length * v_width()));
    }
  }

  KvView view() const {
    KvView view{shape_, pages_.data(), page_bytes_, table_.data(), max_pages_, device_lengths_.data()};
    view.page_count = total_pages();
    view.most_tokens = *std::max_element(lengths_.begin(), lengths_.end());
    return view;
  }

  void append_random(float k_scale = 1.0f) {
    for (std::size_t b = 0; b < lengths_.size(); ++b)
      for (std::int64_t t = 0; t < lengths_[b]; ++t)
        append(static_cast<std::int64_t>(b), t, random_row(k_width(), k_scale), random_row(v_width(), 1.0f));
  }

  void append(std::int64_t request, std::int64_t token, const std::vector<BF16>& k,
              const std::vector<BF16>& v) {
    slot_.write(0, std::vector<std::int64_t>{token});
    k_row_.write(0, k);
    v_row_.write(0, std::span(v).first(static_cast<std::size_t>(v_width())));
    device().kv_append(view().from_request(request), 1, slot_.data(), k_row_.data(), k_width(), v_row_.data(),
                       v_width());
    const std::vector<float> k_row = stored_row(k, shape_.dtype), v_row = stored_row(v, shape_.dtype);
    std::copy_n(k_row.begin(), k_width(), k_[request].begin() + token * k_width());
    std::copy_n(v_row.begin(), v_width(), v_[request].begin() + token * v_width());
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
  std::vector<std::byte> pages() const { return pages_.values(); }

 private:
  /// Kernels of other makers read, and multiply by zero, what lies behind a request's end (KvView).
  bool read_whole() const { return shape_.kernels != KernelMaker::own; }
  std::int64_t page_count(std::int64_t tokens) const {
    return (tokens + shape_.tokens_per_page - 1) / shape_.tokens_per_page;
  }
  std::int64_t total_pages() const {
    std::int64_t sum = 0;
    for (std::int64_t length : lengths_) sum += page_count(length);
    return sum;
  }
  std::vector<std::int32_t> shuffled_table() {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(total_pages())), table;
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), random_);
    std::size_t used = 0;
    for (std::int64_t length : lengths_)
      for (std::int64_t p = 0; p < max_pages_; ++p)
        table.push_back(p < page_count(length) ? ids[used++]
                        : read_whole()         ? 0
                        : p % 2                ? std::numeric_limits<std::int32_t>::min()
                                               : std::numeric_limits<std::int32_t>::max());
    return table;
  }
  std::int64_t k_width() const { return shape_.kv_heads * shape_.head_dim; }
  std::int64_t v_width() const {
    return shape_.kind == AttentionKind::mla ? 0 : shape_.kv_heads * shape_.v_dim;
  }

  KvShape shape_;
  std::vector<std::int64_t> lengths_;
  std::mt19937 random_;
  std::int64_t max_pages_;
  std::size_t page_bytes_;
  DeviceVector<std::byte> pages_;
  DeviceVector<std::int32_t> table_;
  DeviceVector<std::int64_t> device_lengths_;
  DeviceVector<std::int64_t> slot_;  // of the token that is appended, and its rows
  DeviceVector<BF16> k_row_, v_row_;
  std::vector<std::vector<float>> k_, v_;
};

/// Local tokens that the rows of a step attend, [batch, query_tokens].
struct RowLengths {
  std::int64_t query_tokens = 1;
  std::vector<std::int64_t> lengths;
};

/// A row a request, which attends all it has.
inline RowLengths whole(const PagedCache& cache) {
  return {1, cache.lengths()};
}

struct AttentionResult {
  std::vector<BF16> o;  // NaN where nothing was written
  std::vector<float> lse;
};

inline AttentionResult attend(const PagedCache& cache, const RowLengths& attended, std::int64_t q_heads,
                              float scale, const std::vector<BF16>& q, Backend& backend = device()) {
  const DeviceVector<std::int64_t> lengths(attended.lengths);
  KvView view = cache.view();
  view.lengths = lengths.data();
  view.query_tokens = attended.query_tokens;
  const auto batch = static_cast<std::int64_t>(cache.lengths().size());
  const auto rows = attended.lengths.size() * static_cast<std::size_t>(q_heads);
  const DeviceVector<BF16> q_in(q), o(rows * static_cast<std::size_t>(view.shape.v_dim), to_bf16(nan_value));
  const DeviceVector<float> lse(rows, nan_value);
  const DeviceVector<std::byte> scratch(
      unwritten, backend.attention_scratch_bytes(view.shape, batch, q_heads * attended.query_tokens));
  backend.attention(view, batch, q_heads, scale, q_in.data(), o.data(), lse.data(), scratch.span());
  return {o.values(), lse.values()};
}
inline AttentionResult attend(const PagedCache& cache, std::int64_t q_heads, float scale,
                              const std::vector<BF16>& q, Backend& backend = device()) {
  return attend(cache, whole(cache), q_heads, scale, q, backend);
}

// Largest difference over the largest value of the head's exact row. bf16 probabilities have relative errors
// up to 2^-9, which add up like |p| |v|; the output is rounded once more by up to 2^-9.
inline void check_attention(const PagedCache& cache, const RowLengths& attended, std::int64_t q_heads,
                            float scale, const std::vector<BF16>& q, const AttentionResult& result) {
  const KvShape shape = cache.view().shape;
  for (std::size_t r = 0; r < attended.lengths.size(); ++r) {
    const auto row = static_cast<std::int64_t>(r), request = row / attended.query_tokens;
    const std::int64_t tokens = attended.lengths[r];
    std::vector<double> q_exact, o(static_cast<std::size_t>(q_heads * shape.v_dim)),
        lse(static_cast<std::size_t>(q_heads));
    for (std::int64_t i = 0; i < q_heads * shape.head_dim; ++i)
      q_exact.push_back(to_float(q[row * q_heads * shape.head_dim + i]));
    reference_attention({tokens, q_heads, shape.kv_heads, shape.head_dim, shape.v_dim, scale,
                         [&](auto t, auto h, auto d) { return cache.k(request, t, h, d); },
                         [&](auto t, auto h, auto d) { return cache.v(request, t, h, d); }},
                        q_exact.data(), o.data(), lse.data());
    for (std::int64_t h = 0; h < q_heads; ++h) {
      const float got_lse = result.lse[row * q_heads + h];
      const BF16* const got = &result.o[(row * q_heads + h) * shape.v_dim];
      if (tokens == 0) {
        REQUIRE(got_lse == -infinity);
        for (std::int64_t d = 0; d < shape.v_dim; ++d) REQUIRE(std::isnan(to_float(got[d])));
        continue;
      }
      // Of fp32 sums of head_dim products, and of `tokens` probabilities in rows of lanes.
      const double lse_error = std::fabs(got_lse - lse[h]);
      INFO("row " << row << " of request " << request << ", " << tokens << " tokens, head " << h << ", lse "
                  << got_lse << " not " << lse[h]);
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

inline void check_attention(const PagedCache& cache, std::int64_t q_heads, float scale,
                            const std::vector<BF16>& q, const AttentionResult& result) {
  check_attention(cache, whole(cache), q_heads, scale, q, result);
}

/// Random queries with `group` heads for each KV head.
inline void check_random_queries(PagedCache& cache, const RowLengths& attended, std::int64_t group,
                                 Backend& backend = device()) {
  const KvShape shape = cache.view().shape;
  const std::int64_t q_heads = group * shape.kv_heads;
  const std::vector<BF16> q = cache.random_row(std::ssize(attended.lengths) * q_heads * shape.head_dim, 4.0f);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  INFO("dim " << shape.head_dim << " group " << group << " page " << shape.tokens_per_page << ' '
              << name(shape.dtype));
  check_attention(cache, attended, q_heads, scale, q, attend(cache, attended, q_heads, scale, q, backend));
}
inline void check_random_queries(PagedCache& cache, std::int64_t group, Backend& backend = device()) {
  check_random_queries(cache, whole(cache), group, backend);
}

/// A cache of one token whose V holds the fp8 numbers that are wanted: attention returns them as they are.
inline void check_fp8_values(const std::function<bool(float)>& wanted) {
  const std::int64_t dim = 256;
  PagedCache cache(gqa(1, dim, DType::fp8), {1});
  std::vector<BF16> v;
  for (int bits = 0; bits < dim; ++bits) {
    const float value = to_float(FP8{static_cast<std::uint8_t>(bits)});
    v.push_back(to_bf16(wanted(value) ? value : 0.0f));
  }
  cache.append(0, 0, cache.random_row(dim, 1.0f), v);
  const std::vector<BF16> q = cache.random_row(4 * dim, 1.0f);
  on_every_path([&] {
    const AttentionResult result = attend(cache, 4, 0.1f, q);
    for (std::size_t i = 0; i < result.o.size(); ++i) {
      const float got = to_float(result.o[i]), stored = to_float(v[i % static_cast<std::size_t>(dim)]);
      INFO("fp8 bits " << i % static_cast<std::size_t>(dim));
      REQUIRE((std::isnan(stored) ? std::isnan(got) : got == stored));
    }
  });
}

}  // namespace helix::testing
