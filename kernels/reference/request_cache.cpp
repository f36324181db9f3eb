#include "kernels/reference/request_cache.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/ops/simd_clones.hpp"
#include "kernels/ops/synthetic.hpp"
#include "kernels/ops/work_counter.hpp"
#include "roofline/base/arithmetic.hpp"
#include "roofline/step/range.hpp"

namespace helix::reference {
namespace {

constexpr std::int64_t kBlock = 64;            // tokens whose rows are held at a time
constexpr std::int64_t kBlocksPerThread = 32;  // at least

/// unit_value takes 256 values, (2 h + 1) / 256 with h in [-128, 127]: what the cache holds of
/// each, in order.
Vector stored_values(DType dtype) {
  Vector stored;
  for (int h = -128; h < 128; ++h) {
    const float x = static_cast<float>(2 * h + 1) / 256.0f;
    stored.push_back(
        static_cast<double>(dtype == DType::fp8 ? synthetic::stored_fp8(x) : synthetic::stored_bf16(x)));
  }
  return stored;
}

/// A row in blocks that share a scale.
void synthetic_nvfp4_row(std::uint32_t row, std::span<double> out) {
  std::vector<float> values(out.size());
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = synthetic::unit_value(row, static_cast<std::uint32_t>(i));
  store_as_nvfp4(values);
  std::ranges::copy(values, out.begin());
}

HELIX_SIMD_CLONES void synthetic_row(std::uint32_t row, std::uint32_t n, const double* stored, double* out) {
#pragma omp simd
  for (std::uint32_t i = 0; i < n; ++i) {
    const auto index = static_cast<std::int32_t>(synthetic::unit_value(row, i) * 128.0f + 127.5f);  // h + 128
    out[i] = stored[index];
  }
}

/// Softmax-weighted sum of value rows, block by block, with the running maximum of the scores taken out.
struct OnlineSoftmax {
  double largest = -std::numeric_limits<double>::infinity();
  double sum = 0.0;
  Vector o;

  explicit OnlineSoftmax(std::size_t v_dim) : o(v_dim, 0.0) {}

  void add(std::span<const double> scores, const double* values, std::size_t stride) {
    const double block_largest = *std::max_element(scores.begin(), scores.end());
    if (block_largest == -std::numeric_limits<double>::infinity()) return;  // nothing of it is attended
    raise_largest(block_largest);
    for (std::size_t t = 0; t < scores.size(); ++t) {
      const double weight = std::exp(scores[t] - largest);
      sum += weight;
      add_scaled(weight, {values + t * stride, o.size()}, o);
    }
  }

  /// What another has added, of other tokens.
  void add(const OnlineSoftmax& other) {
    if (other.largest == -std::numeric_limits<double>::infinity()) return;
    raise_largest(other.largest);
    const double weight = std::exp(other.largest - largest);
    sum += weight * other.sum;
    add_scaled(weight, other.o, o);
  }

  void add_sink(double score) {
    raise_largest(score);
    sum += std::exp(score - largest);
  }

 private:
  void raise_largest(double score) {
    if (score <= largest) return;
    const double shrink = std::exp(largest - score);
    sum *= shrink;
    for (double& x : o) x *= shrink;
    largest = score;
  }
};

/// Of one KV head, and a part of its tokens.
struct RowBlocks {
  Vector k, v;
  Vector scores;
  RowBlocks(const KvShape& shape)
      : k(static_cast<std::size_t>(kBlock * shape.head_dim)),
        v(shape.kind == AttentionKind::mla ? 0 : static_cast<std::size_t>(kBlock * shape.v_dim)),
        scores(static_cast<std::size_t>(kBlock)) {}
};

}  // namespace

RequestCache::RequestCache(const KvShape& shape, std::uint64_t seed, std::int64_t layer, std::int64_t request,
                           std::int64_t context, bool exact, Tensor keys)
    : shape_(shape),
      seed_(seed),
      layer_(layer),
      request_(request),
      context_(context),
      exact_(exact),
      keys_(keys),
      stored_(stored_values(shape.dtype)) {}

void RequestCache::append(std::span<const double> k, std::span<const double> v) {
  const auto store = [this](std::span<const double> row, Vector& rows) {
    if (exact_) {
      rows.insert(rows.end(), row.begin(), row.end());
      return;
    }
    std::vector<float> values(row.begin(), row.end());
    if (shape_.dtype == DType::nvfp4) store_as_nvfp4(values);
    for (const float x : values)
      rows.push_back(static_cast<double>(shape_.dtype == DType::bf16  ? synthetic::stored_bf16(x)
                                         : shape_.dtype == DType::fp8 ? synthetic::stored_fp8(x)
                                                                      : x));
  };
  store(k, appended_k_);
  store(v, appended_v_);
  ++appended_;
}

void RequestCache::drop(std::int64_t tokens) {
  const std::int64_t of_k = shape_.kv_heads * shape_.head_dim;
  const std::int64_t of_v = shape_.kind == AttentionKind::mla ? 0 : shape_.kv_heads * shape_.v_dim;
  appended_ -= tokens;
  appended_k_.resize(static_cast<std::size_t>(appended_ * of_k));
  appended_v_.resize(static_cast<std::size_t>(appended_ * of_v));
}

void RequestCache::load_rows(std::int64_t head, bool values, std::int64_t first, std::int64_t count,
                             double* rows) const {
  const std::int64_t width = values ? shape_.v_dim : shape_.head_dim;
  const auto tensor = static_cast<std::uint32_t>(values ? Tensor::history_v : keys_);
  const std::uint64_t key =
      synthetic::tensor_key(seed_, tensor, static_cast<std::uint32_t>(layer_),
                            static_cast<std::uint32_t>(request_ * shape_.kv_heads + head));
  const Vector& appended = values ? appended_v_ : appended_k_;
  for (std::int64_t t = first; t < first + count; ++t, rows += width) {
    if (t < context_ && shape_.dtype == DType::nvfp4) {
      synthetic_nvfp4_row(synthetic::row_key(key, t), {rows, static_cast<std::size_t>(width)});
    } else if (t < context_) {
      synthetic_row(synthetic::row_key(key, t), static_cast<std::uint32_t>(width), stored_.data(), rows);
    } else {
      std::copy_n(appended.begin() + ((t - context_) * shape_.kv_heads + head) * width, width, rows);
    }
  }
}

Vector RequestCache::attend(std::span<const double> q, double scale, const Attended& attended,
                            int threads) const {
  const auto head_dim = static_cast<std::size_t>(shape_.head_dim),
             v_dim = static_cast<std::size_t>(shape_.v_dim);
  const auto kv_heads = static_cast<std::size_t>(shape_.kv_heads);
  const std::size_t q_heads = q.size() / head_dim;
  const std::size_t group = q_heads / kv_heads;
  const bool mla = shape_.kind == AttentionKind::mla;

  // The tokens in parts, as many as are worth a thread.
  const std::int64_t oldest = attended.window > 0 ? std::max<std::int64_t>(0, tokens() - attended.window) : 0;
  const std::int64_t blocks = ceil_div(tokens() - oldest, kBlock);
  const auto parts = static_cast<int>(std::clamp<std::int64_t>(blocks / kBlocksPerThread, 1, threads));
  std::vector<std::vector<OnlineSoftmax>> softmaxes(
      static_cast<std::size_t>(parts), std::vector<OnlineSoftmax>(q_heads, OnlineSoftmax(v_dim)));
  std::vector<RowBlocks> rows_of(static_cast<std::size_t>(parts), RowBlocks(shape_));
#pragma omp parallel for num_threads(parts) if (parts > 1)
  for (int part = 0; part < parts; ++part) {
    std::vector<OnlineSoftmax>& softmax = softmaxes[static_cast<std::size_t>(part)];
    RowBlocks& rows = rows_of[static_cast<std::size_t>(part)];
    const Range own = even_split(blocks, parts, part);
    for (std::size_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
      for (std::int64_t block = own.begin; block < own.end; ++block) {
        const std::int64_t first = oldest + block * kBlock, count = std::min(kBlock, tokens() - first);
        load_rows(static_cast<std::int64_t>(kv_head), false, first, count, rows.k.data());
        if (!mla) load_rows(static_cast<std::int64_t>(kv_head), true, first, count, rows.v.data());
        const std::span<double> scores = std::span(rows.scores).first(static_cast<std::size_t>(count));
        note_work();
        for (std::size_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
          for (std::size_t t = 0; t < scores.size(); ++t) {
            const bool counts =
                attended.chosen == nullptr || (*attended.chosen)[static_cast<std::size_t>(first) + t];
            scores[t] = counts ? scale * dot(q.subspan(h * head_dim, head_dim),
                                             {rows.k.data() + t * head_dim, head_dim})
                               : -std::numeric_limits<double>::infinity();
          }
          softmax[h].add(scores, mla ? rows.k.data() : rows.v.data(), mla ? head_dim : v_dim);
        }
      }
    }
  }
  std::vector<OnlineSoftmax>& whole = softmaxes.front();
  for (std::size_t part = 1; part < softmaxes.size(); ++part)
    for (std::size_t h = 0; h < q_heads; ++h) whole[h].add(softmaxes[part][h]);
  Vector out;
  for (OnlineSoftmax& head : whole) {
    const std::size_t h = out.size() / v_dim;
    if (!attended.sinks.empty()) head.add_sink(attended.sinks[h]);
    for (const double x : head.o) out.push_back(head.sum > 0.0 ? x / head.sum : 0.0);
  }
  return out;
}

Vector RequestCache::index_scores(std::span<const double> q, std::span<const double> weights,
                                  double scale) const {
  const auto dim = static_cast<std::size_t>(shape_.head_dim);
  Vector k(static_cast<std::size_t>(kBlock) * dim), scores;
  for (std::int64_t first = 0; first < tokens(); first += kBlock) {
    const std::int64_t count = std::min(kBlock, tokens() - first);
    load_rows(0, false, first, count, k.data());
    note_work();
    for (std::size_t t = 0; t < static_cast<std::size_t>(count); ++t) {
      double score = 0.0;
      for (std::size_t h = 0; h < weights.size(); ++h)
        score += weights[h] * std::max(0.0, scale * dot(q.subspan(h * dim, dim), {k.data() + t * dim, dim}));
      scores.push_back(score);
    }
  }
  return scores;
}

}  // namespace helix::reference
