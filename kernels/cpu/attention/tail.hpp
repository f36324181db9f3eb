// The tokens that some of a step's rows attend and others do not: the step's own, at most. They come last in a
// request's cache, so that fast kernels attend what all rows see and need no masks; these few tokens are added to
// their results one by one, in fp32.
#pragma once

#include <cstdint>

#include "kernels/cpu/attention/kv_layout.hpp"
#include "kernels/ops/memory.hpp"

namespace helix::cpu {

/// What rows have attended: o [rows, v_dim], lse2 [rows] in base 2. An o whose lse2 is -inf holds garbage.
struct Partial {
  float* o;
  float* lse2;
};

/// One token's K and V for one KV head.
struct TailToken {
  float *k, *v;

  TailToken(Carver& carver, const KvLayout& layout)
      : k(carver.take<float>(layout.head_dim)), v(carver.take<float>(layout.v_dim)) {}

  void load(const KvView& cache, const KvLayout& layout, std::int64_t request, std::int64_t kv_head,
            std::int64_t token) const;
  /// Row `row` with query q attends it, too.
  void add(const KvLayout& layout, const BF16* q, float scale_log2, const Partial& to,
           std::int64_t row) const;
};

/// sum = the merge of row `row` and (lse2, o) of others.
void merge_row(std::int64_t v_dim, float lse2, const float* o, const Partial& sum, std::int64_t row);

}  // namespace helix::cpu
