#include "roofline/step/rank_plan.hpp"

#include <algorithm>

#include "roofline/step/draft_ops.hpp"

namespace helix {

KeptTokens kept_tokens(const AttentionSpec& a, const Sharding& sharding, const DecodeShape& shape) {
  return {.context = shape.context,
          .window = a.window,
          .tokens_per_block = shape.tokens_per_block,
          .kvp = sharding.kvp};
}

AttentionPart attention_part(const AttentionSpec& a, const Sharding& sharding, const RankCoords& at,
                             const DecodeShape& shape) {
  const bool mla = a.kind == AttentionKind::mla;
  const Range kv_heads = cached_kv_heads(a, sharding, at);
  const KeptTokens kept = kept_tokens(a, sharding, shape);
  return {.heads = query_heads(a, sharding, at),
          .owned = owned_heads(a, sharding, at),
          .kv_heads = kv_heads,
          .history = kept.history_of(at.kvp),
          .cache = {.kind = a.kind,
                    .kv_heads = kv_heads.size(),
                    .head_dim = mla ? a.kv_lora_rank + a.qk_rope_head_dim : a.qk_head_dim,
                    .v_dim = mla ? a.kv_lora_rank : a.v_head_dim,
                    .tokens_per_page = shape.tokens_per_block,
                    .dtype = shape.kv_dtype,
                    .kernels = shape.kernels},
          .kvp = sharding.kvp,
          .hop_b = shape.hop_b};
}

FfnPart ffn_part(const ModelSpec& model, const Sharding& sharding, const RankCoords& at) {
  if (!has_ffn(sharding, at)) return {};
  const int parts = sharding.tpf * sharding.ep;
  const int part = at.tpf + sharding.tpf * at.ep;
  const bool whole = attends_whole_requests(sharding);
  return {.dense = even_split(model.ffn, parts, part),
          .shared = even_split(model.moe.shared_ffn, whole ? 1 : parts, whole ? 0 : part),
          .experts = even_split(model.moe.experts, sharding.ep, at.ep),
          .expert_columns = even_split(model.moe.expert_ffn, sharding.tpf, at.tpf)};
}

RankPlan::RankPlan(const Instance& instance, int rank)
    : instance_(instance),
      at_(rank_coords(sharding(), rank)),
      layers_(instance.layers_of(at_.pp)),
      attention_(attention_part(model().attention, sharding(), at_, shape())),
      ffn_(ffn_part(model(), sharding(), at_)),
      vocab_(even_split(model().vocab, sharding().stage_ranks(), rank % sharding().stage_ranks())),
      micro_batches_(helix::micro_batches(sharding(), shape().batch, at_.dp, shape().query_tokens())) {
  for (const std::int64_t layer : layers_held()) {
    const std::int64_t window = attention_of(layer).window;
    auto cache = std::ranges::find(caches_, window, [](const CachedLayers& c) { return c.kept.window; });
    if (cache == caches_.end())
      cache = caches_.insert(cache, {.kept = kept_tokens(attention_of(layer), sharding(), shape())});
    cache->layers.push_back(layer);
  }
}

std::optional<std::int64_t> RankPlan::draft_layer() const {
  if (!runs_drafts(instance_.step())) return std::nullopt;
  return model().layers;
}

std::vector<std::int64_t> RankPlan::layers_held() const {
  std::vector<std::int64_t> held;
  for (std::int64_t layer = layers_.begin; layer < layers_.end; ++layer) held.push_back(layer);
  if (const auto drafts = draft_layer()) held.push_back(*drafts);
  return held;
}

std::size_t RankPlan::cache_of(std::int64_t layer) const {
  const auto holds = [&](const CachedLayers& c) { return std::ranges::count(c.layers, layer) > 0; };
  return static_cast<std::size_t>(std::ranges::find_if(caches_, holds) - caches_.begin());
}

std::int64_t RankPlan::attended() const {
  return micro_batches_.back().cached + micro_batches_.back().attended.size();
}

std::vector<Range> RankPlan::cached_requests() const {
  std::vector<Range> cached;
  for (const MicroBatch& m : micro_batches_)
    cached.push_back({m.requests.begin + m.attended.begin, m.requests.begin + m.attended.end});
  return cached;
}

Range RankPlan::kept_requests(const MicroBatch& batch) const {
  return whole_requests() ? batch.attended : Range{0, batch.requests.size()};
}

std::vector<CacheRoom> RankPlan::cache_rooms(std::int64_t steps) const {
  std::vector<CacheRoom> rooms;
  for (const CachedLayers& cache : caches_) {
    rooms.push_back({.shape = attention_.cache,
                     .layers = cache.layers,
                     .requests = attended(),
                     .history = cache.kept.history_of(at_.kvp),
                     .growth = cache.kept.growth(steps * shape().query_tokens()),
                     .query_tokens = shape().query_tokens()});
  }
  return rooms;
}

std::int64_t RankPlan::tokens_with_room(std::int64_t steps) const {
  const std::int64_t round = std::int64_t{shape().tokens_per_block} * sharding().kvp;
  return ceil_div(steps * shape().query_tokens(), round) * round;
}

}  // namespace helix
