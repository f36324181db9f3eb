// The KV cache of one request in one layer, as the fp64 reference sees it: `context` synthetic tokens, made
// when they are read, and behind them the tokens that were decoded. What a cache of this dtype cannot hold is
// no error of the kernels, so all of it is rounded to the dtype.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/ops/ops.hpp"
#include "kernels/ops/tensor_ids.hpp"
#include "kernels/reference/math.hpp"

namespace helix::reference {

/// What an attention's softmax is of.
struct Attended {
  std::int64_t window = 0;                    // so many tokens, the last ones; 0: all
  const std::vector<bool>* chosen = nullptr;  // of all tokens; null: all
  std::span<const double> sinks{};            // a score of each query head that no value belongs to; or none
};

class RequestCache {
 public:
  /// `shape` as for a rank that caches every KV head; its tokens_per_page plays no part. Rows
  /// as HistorySlice says.
  /// `exact`: appended rows are kept as they are.
  RequestCache(const KvShape& shape, std::uint64_t seed, std::int64_t layer, std::int64_t request,
               std::int64_t context, bool exact = false, Tensor keys = Tensor::history_k);

  std::int64_t tokens() const { return context_ + appended_; }

  /// k [kv_heads * head_dim] and v [kv_heads * v_dim] of one more token; MLA: k is the latent + rope row, v
  /// is empty.
  void append(std::span<const double> k, std::span<const double> v);

  /// Forgets the last `tokens` of them.
  void drop(std::int64_t tokens);

  /// softmax(scale q k^T) v: q [q_heads * head_dim] -> [q_heads * v_dim]. Zero if there is no token.
  /// `threads`: at most, each on a part of the tokens.
  Vector attend(std::span<const double> q, double scale, const Attended& attended = {},
                int threads = 1) const;
  /// Of each token, sum over heads h of weights[h] * relu(scale * q_h . k).
  Vector index_scores(std::span<const double> q, std::span<const double> weights, double scale) const;

 private:
  void load_rows(std::int64_t head, bool values, std::int64_t first, std::int64_t count, double* rows) const;

  KvShape shape_;
  std::uint64_t seed_;
  std::int64_t layer_, request_, context_;
  bool exact_;
  Tensor keys_;
  std::int64_t appended_ = 0;
  Vector appended_k_, appended_v_;  // [appended, kv_heads, head_dim], [appended, kv_heads, v_dim]
  Vector stored_;  // what the cache's dtype holds of each of the 256 synthetic values; NVFP4: of none alone
};

}  // namespace helix::reference
