#include "roofline/step/sharding.hpp"

#include <algorithm>

namespace helix {

RankCoords rank_coords(const Sharding& s, int rank) {
  const int in_stage = rank % s.stage_ranks();
  return {.dp = in_stage / (s.tpa * s.kvp),
          .kvp = in_stage / s.tpa % s.kvp,
          .tpa = in_stage % s.tpa,
          .tpf = in_stage % s.tpf,
          .ep = in_stage / s.tpf,
          .pp = rank / s.stage_ranks()};
}

bool attends_whole_requests(const Sharding& sharding) {
  return sharding.dp > 1 && sharding.dp == sharding.stage_ranks();
}

bool has_ffn(const Sharding& sharding, const RankCoords& at) {
  return at.ep < sharding.ep;
}

Range stage_layers(std::int64_t layers, const Sharding& sharding, int stage) {
  return even_split(layers, sharding.pp, stage);
}

std::vector<MicroBatch> micro_batches(const Sharding& sharding, std::int64_t batch, int dp_index,
                                      std::int64_t query_tokens) {
  std::vector<MicroBatch> list;
  std::int64_t cached = 0;
  for (int i = 0; i < std::min<std::int64_t>(sharding.pp, batch); ++i) {
    const Range requests = even_split(batch, sharding.pp, i);
    const Range attended = even_split(requests.size(), sharding.dp, dp_index);
    list.push_back(
        {.requests = requests, .attended = attended, .cached = cached, .query_tokens = query_tokens});
    cached += attended.size();
  }
  return list;
}

bool every_group_attends(const Sharding& sharding, std::int64_t batch) {
  return batch / std::min<std::int64_t>(sharding.pp, batch) >= sharding.dp;
}

Range query_heads(const AttentionSpec& attention, const Sharding& sharding, const RankCoords& at) {
  return even_split(attention.q_heads, sharding.tpa, at.tpa);
}

Range owned_heads(const AttentionSpec& attention, const Sharding& sharding, const RankCoords& at) {
  const Range attended = query_heads(attention, sharding, at);
  const Range part = even_split(attended.size(), sharding.kvp, at.kvp);
  return {attended.begin + part.begin, attended.begin + part.end};
}

Range cached_kv_heads(const AttentionSpec& attention, const Sharding& sharding, const RankCoords& at) {
  const std::int64_t heads = attention.kv_heads;
  if (sharding.tpa <= heads) return even_split(heads, sharding.tpa, at.tpa);
  const std::int64_t head = at.tpa * heads / sharding.tpa;
  return {head, head + 1};
}

Range history_tokens(std::int64_t context, int tokens_per_block, int kvp, int kvp_index) {
  const std::int64_t blocks = context / tokens_per_block + (context % tokens_per_block != 0);
  const Range own = even_split(blocks, kvp, kvp_index);
  return {std::min(own.begin * tokens_per_block, context), std::min(own.end * tokens_per_block, context)};
}

int append_owner(std::int64_t step, int tokens_per_block, int kvp) {
  return static_cast<int>(step / tokens_per_block % kvp);
}

std::int64_t appended_tokens(std::int64_t steps, int tokens_per_block, int kvp, int kvp_index) {
  const std::int64_t block = tokens_per_block, round = block * kvp;
  const std::int64_t in_last_round = std::clamp(steps % round - block * kvp_index, std::int64_t{0}, block);
  return steps / round * block + in_last_round;
}

}  // namespace helix
