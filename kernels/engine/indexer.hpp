// Sparse attention's choice of the cached tokens that are attended. Every KVP rank scores the keys of its own
// shard and offers its best; all ranks see all offers and keep the same best of them, of which each attends
// those that it holds. So the choice is that of one rank with the whole sequence, whatever the sharding; of equal
// scores the lower rank's token is kept, and of one rank's the lower one, which is the lower position but
// for tokens appended since.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/engine/block_context.hpp"
#include "kernels/ops/memory.hpp"
#include "kernels/state/kv_cache.hpp"

namespace helix {

class Indexer {
 public:
  /// Of the largest micro-batch, but for what is chosen. All null where the model has no indexer.
  struct Arrays {
    Arrays(Carver& carver, const RankPlan& plan, const Backend& backend, std::int64_t steps);

    BF16 *q = nullptr, *k = nullptr;                      // [attended, heads, width], [attended, width]
    float *weights = nullptr, *scores = nullptr;          // [attended, heads], [attended, tokens]
    ScoredToken *offered = nullptr, *gathered = nullptr;  // [attended, room], [kvp, attended, room]
    ChosenTokens chosen;
    KvView view;  // the chosen rows of the layer that runs; its page table is written by Indexer
  };

  /// The keys' cache, which grows with that of the latents.
  static KvShape key_shape(const IndexerSpec& spec, const KvShape& latents);
  static CacheRoom key_room(const RankPlan& plan, std::int64_t steps);
  /// Bytes of it and of the arrays; 0 where the model has no indexer.
  static std::size_t key_bytes(const Backend& backend, const RankPlan& plan, std::int64_t steps);
  static std::size_t array_bytes(const Backend& backend, const RankPlan& plan, std::int64_t steps);

  /// Generates the keys of the history. `latents`: the cache that is attended.
  Indexer(const BlockContext& context, const Arrays& arrays, std::int64_t steps, KvCache& latents,
          std::unique_ptr<Buffer>& key_memory);

  /// Scores and appends of the micro-batch. q_latent: [attended, q_lora_rank].
  void project(std::int64_t layer, const Work& work, const BF16* q_latent, const RopeTable& rope,
               const std::int64_t* positions);
  /// The choice for the micro-batch.
  void choose(std::int64_t layer, const Work& work);
  /// A cache of the chosen tokens alone, of these requests of the micro-batch.
  KvView gathered(const KvView& latents, Range requests);

  /// Local tokens that the last choice attends, of each request that the rank attends in the micro-batch.
  std::vector<std::vector<std::int32_t>> chosen(std::int64_t requests) const;

 private:
  KvView keys(std::int64_t layer, const Work& work);

  BlockContext c_;
  Arrays a_;
  KvCache keys_;
  KvCache& latents_;
};

}  // namespace helix
