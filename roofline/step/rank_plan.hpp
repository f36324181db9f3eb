// A rank's part of an instance: all that follows from the two and needs no backend.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "roofline/step/instance.hpp"
#include "roofline/step/kept_tokens.hpp"
#include "roofline/step/shapes.hpp"

namespace helix {

/// In every layer of this attention.
struct AttentionPart {
  Range heads;     // query heads that the rank attends with
  Range owned;     // query heads that it has after the all-to-all
  Range kv_heads;  // that it caches
  Range
      history;  // positions of each request that it caches before decoding starts, in the model's first kind
  KvShape cache;
  int kvp = 1, hop_b = 1;

  /// How it attends so many requests: in pieces where there is an exchange to hide.
  Pieces pieces(std::int64_t requests) const { return {requests, kvp > 1 ? hop_b : 1}; }
  /// What it sends of so many requests.
  PartialShape partials(std::int64_t requests) const {
    return {.parts = kvp, .batch = requests, .heads = owned.size(), .v_dim = cache.v_dim};
  }
};
KeptTokens kept_tokens(const AttentionSpec& attention, const Sharding& sharding, const DecodeShape& shape);
/// Of the rank at these places; that of the first ones, RankCoords{}, is the largest.
AttentionPart attention_part(const AttentionSpec& attention, const Sharding& sharding, const RankCoords& at,
                             const DecodeShape& shape);

/// Of the FFN's weights: columns of its hidden layer, and which routed experts. All empty on ranks that idle.
struct FfnPart {
  Range dense, shared;  // over all ranks of the FFN; shared experts whole where requests are attended whole
  Range experts, expert_columns;  // over EP, and each of them over TPF
};
FfnPart ffn_part(const ModelSpec& model, const Sharding& sharding, const RankCoords& at);

/// Layers of a stage that keep the same tokens, and share a cache.
struct CachedLayers {
  KeptTokens kept;
  std::vector<std::int64_t> layers{};
};

class RankPlan {
 public:
  RankPlan(const Instance& instance, int rank);

  const Instance& instance() const { return instance_; }
  const ModelSpec& model() const { return instance_.model(); }
  const Sharding& sharding() const { return instance_.sharding(); }
  const DecodeShape& shape() const { return instance_.shape(); }

  const RankCoords& at() const { return at_; }
  bool first_stage() const { return at_.pp == 0; }
  bool last_stage() const { return at_.pp == sharding().pp - 1; }
  /// Its stage's.
  const Range& layers() const { return layers_; }
  /// The draft layer's number, where the rank runs one: it decodes on one pipeline stage.
  std::optional<std::int64_t> draft_layer() const;
  /// Its stage's, and the draft layer.
  std::vector<std::int64_t> layers_held() const;
  bool has_layer(std::int64_t layer) const { return layer >= layers_.begin && layer < layers_.end; }
  const AttentionPart& attention() const { return attention_; }
  const AttentionSpec& attention_of(std::int64_t layer) const {
    return model().attention_of(model().layer_kind(layer));
  }
  bool has_ffn() const { return helix::has_ffn(sharding(), at_); }
  const FfnPart& ffn() const { return ffn_; }
  /// Its rows of the embedding table (first stage) and of the LM head (last stage).
  const Range& vocab() const { return vocab_; }

  /// As its DP group sees them; the first is the largest.
  const std::vector<MicroBatch>& micro_batches() const { return micro_batches_; }
  const MicroBatch& largest() const { return micro_batches_.front(); }
  /// Requests that it attends, of all micro-batches.
  std::int64_t attended() const;
  /// Rows of a step of the whole batch, query_tokens of each request.
  std::int64_t rows() const { return shape().batch * shape().query_tokens(); }
  /// Which of the batch's these are, in the order of the cache.
  std::vector<Range> cached_requests() const;
  /// Whether it keeps the residual stream of the requests alone that it attends.
  bool whole_requests() const { return attends_whole_requests(sharding()); }
  /// Requests of a micro-batch whose residual stream it keeps, and their rows.
  Range kept_requests(const MicroBatch& batch) const;
  Range kept_rows(const MicroBatch& batch) const { return scaled(kept_requests(batch), batch.query_tokens); }

  /// Its KV caches, in the order of their first layers.
  const std::vector<CachedLayers>& caches() const { return caches_; }
  /// Which of them a layer has.
  std::size_t cache_of(std::int64_t layer) const;
  /// Their rooms for so many steps between rewinds, all of whose tokens may be accepted, and the tokens of a request
  /// that there is room for then.
  std::vector<CacheRoom> cache_rooms(std::int64_t steps) const;
  std::int64_t tokens_with_room(std::int64_t steps) const;

 private:
  Instance instance_;
  RankCoords at_;
  Range layers_;
  AttentionPart attention_;
  FfnPart ffn_;
  Range vocab_;
  std::vector<MicroBatch> micro_batches_;
  std::vector<CachedLayers> caches_;
};

}  // namespace helix
