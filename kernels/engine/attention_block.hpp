// The attention phase of a layer, and the KV caches. Every rank of a KVP group projects the queries of the whole
// batch itself, attends over its own shard of the sequence, and after one all-to-all owns 1 / KVP of the heads.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/engine/attention_inputs.hpp"
#include "kernels/engine/block_context.hpp"
#include "kernels/engine/indexer.hpp"
#include "kernels/ops/memory.hpp"
#include "kernels/state/kv_cache.hpp"

namespace helix {

class AttentionBlock {
 public:
  /// Of the largest micro-batch, but for the positions; null where the model or the sharding has no use for them.
  struct Arrays {
    Arrays(Carver& carver, const RankPlan& plan, const Backend& backend, std::int64_t steps);

    // Of all requests that the rank attends, and of all their rows.
    std::int64_t *decoded = nullptr, *accepted = nullptr;
    std::int64_t* positions;
    BF16* values = nullptr;                      // [attended, owned heads, v]
    BF16 *q, *o;                                 // [attended, heads, key or value width of the cache]
    float* lse;                                  // [attended, heads]
    std::byte *send = nullptr, *recv = nullptr;  // HOP-B's pieces of partial results
    BF16* merged = nullptr;                      // [attended, owned heads, value width of the cache]
    AttentionInputs::Arrays inputs;
    Indexer::Arrays indexer;
  };
  static std::size_t scratch_bytes(const RankPlan& plan, const Backend& backend);

  /// Generates the history. The caches get room for `steps` steps between rewinds, in `memory`.
  AttentionBlock(const BlockContext& context, const Arrays& arrays, std::int64_t steps, EngineMemory& memory);

  /// Of sparse attention, where the model has it.
  const std::optional<Indexer>& indexer() const { return indexer_; }

  /// Back to the history alone, from so many steps behind it. The first token decoded is that of this turn to append.
  void rewind(std::int64_t steps, std::int64_t first_turn);
  /// Tokens of the last step, [batch], that the next one follows on.
  void accept(std::span<const std::int64_t> tokens);
  /// Of the step that runs, where it has several tokens of each request.
  RowPlaces places() { return {a_.positions, caches_.front().slots(), caches_.front().lengths()}; }
  /// The micro-batch's next step.
  void advance(const Work& work);
  /// Leaves in the stream's delta what the block adds to it; of parallel blocks this rank's part, for the FFN's sum.
  void run(std::int64_t layer, const Work& work);

 private:
  AttentionInputs::Rows rows_in(std::int64_t layer, const Work& work);
  void attend(const LayerWeights& w, const KvView& cache, Range requests, const Work& work);
  const BF16* attend_whole(const LayerWeights& w, const KvView& cache, const Work& work);
  const BF16* attend_shards(const LayerWeights& w, const KvView& cache, const Work& work);

  std::int64_t heads() const { return c_.plan.attention().heads.size(); }
  std::int64_t owned() const { return c_.plan.attention().owned.size(); }
  const KvShape& cached() const { return c_.plan.attention().cache; }

  BlockContext c_;
  Arrays a_;
  AttentionInputs inputs_;
  std::vector<KvCache> caches_;
  AppendTurns turns_;
  std::optional<Indexer> indexer_;
  float scale_;
};

}  // namespace helix
