// What attention begins with: the queries of the rank's heads for all rows that it attends, and the step's keys and
// values, which go to the cache where it is this rank's turn to keep them.
#pragma once

#include <cstdint>

#include "kernels/engine/block_context.hpp"
#include "kernels/ops/memory.hpp"

namespace helix {

class AttentionInputs {
 public:
  /// Of the largest micro-batch; null where the model or the sharding has no use for them.
  struct Arrays {
    Arrays(Carver& carver, const RankPlan& plan);

    BF16 *qkv = nullptr, *q_a = nullptr;
    float *squares = nullptr, *gathered_squares = nullptr;  // [2, fullest group] a rank: queries, keys
    BF16* q_heads = nullptr;                                // [attended, heads, nope + rope]
    BF16* kv_row = nullptr;                                 // [attended, latent + rope]
    float *inv_freq, *window_inv_freq = nullptr;
  };

  /// Where the micro-batch's rows stand in the cache of a layer.
  struct Rows {
    KvView cache;
    const std::int64_t* slots;
    const std::int64_t* positions;
    bool appends;
  };

  AttentionInputs(const BlockContext& context, const Arrays& arrays);

  /// From the normed rows: q [attended, heads, key width of the cache], keys and values appended.
  void project(std::int64_t layer, const Rows& to, const Work& work, BF16* q);

  /// MLA's, of the rows last projected: [attended, q_lora_rank].
  const BF16* q_latent() const { return a_.q_a; }
  const RopeTable& rope() const { return rope_; }

 private:
  void project_gqa(std::int64_t layer, const Rows& to, const Work& work, BF16* q);
  void project_mla(const LayerWeights& w, const Rows& to, const Work& work, BF16* q);
  /// `q`: rows of all heads' queries, `row` apart.
  void grow_queries(const Rows& to, const Work& work, std::int64_t row, BF16* q);
  void norm_q_and_k(const LayerWeights& w, const Work& work);
  void norm_parts(const LayerWeights& w, const Work& work);

  std::int64_t heads() const { return c_.plan.attention().heads.size(); }
  const KvShape& cached() const { return c_.plan.attention().cache; }
  RopeTable make_table(const RopeSpec& rope, float* inv_freq) const;
  /// Of a layer of this attention.
  RopeTable rope_of(const AttentionSpec& attention) const;

  BlockContext c_;
  Arrays a_;
  RopeTable rope_, window_rope_;  // the second of layers with a window, where they have their own
};

}  // namespace helix
