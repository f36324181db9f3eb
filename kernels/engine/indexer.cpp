#include "kernels/engine/indexer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace helix {
namespace {

/// Tokens of a request that the busiest rank has room for.
std::int64_t most_tokens(const RankPlan& plan, std::int64_t steps) {
  const std::int64_t history =
      attention_part(plan.model().attention, plan.sharding(), {}, plan.shape()).history.size();
  return history + plan.cache_rooms(steps).front().growth;
}

}  // namespace

KvShape Indexer::key_shape(const IndexerSpec& spec, const KvShape& latents) {
  KvShape keys = latents;
  keys.head_dim = keys.v_dim = spec.head_dim;
  keys.kernels = KernelMaker::own;
  return keys;
}

CacheRoom Indexer::key_room(const RankPlan& plan, std::int64_t steps) {
  CacheRoom room = plan.cache_rooms(steps).front();
  room.shape = key_shape(plan.model().attention.indexer, room.shape);
  return room;
}

std::size_t Indexer::key_bytes(const Backend& backend, const RankPlan& plan, std::int64_t steps) {
  if (plan.model().attention.indexer.heads == 0) return 0;
  return KvCache::bytes_needed(backend, std::array{key_room(plan, steps)});
}

std::size_t Indexer::array_bytes(const Backend& backend, const RankPlan& plan, std::int64_t steps) {
  return carved_bytes<Arrays>(Carver(backend), plan, backend, steps);
}

Indexer::Arrays::Arrays(Carver& carver, const RankPlan& plan, const Backend& backend, std::int64_t steps) {
  const IndexerSpec& spec = plan.model().attention.indexer;
  if (spec.heads == 0) return;
  const std::int64_t attended = plan.largest().attended.size(), kvp = plan.sharding().kvp;
  // So many are kept of all ranks' offers, be it that one shard alone has fewer.
  const std::int64_t tokens = most_tokens(plan, steps), room = std::min(spec.top_k, kvp * tokens);
  q = carver.take<BF16>(attended * spec.heads * spec.head_dim);
  k = carver.take<BF16>(attended * spec.head_dim);
  weights = carver.take<float>(attended * spec.heads);
  scores = carver.take<float>(attended * tokens);
  offered = carver.take<ScoredToken>(attended * room);
  gathered = carver.take<ScoredToken>(kvp * attended * room);
  chosen = {carver.take<std::int32_t>(attended * room), carver.take<std::int64_t>(attended), room};

  const KvShape& row = plan.attention().cache;
  const std::int64_t pages = row.pages(room);
  view = {
      .shape = row, .page_bytes = backend.kv_page_bytes(row), .max_pages = pages, .lengths = chosen.counts};
  view.pages = carver.take<std::byte>(attended * pages * static_cast<std::int64_t>(view.page_bytes));
  view.page_table = carver.take<std::int32_t>(attended * pages);
}

Indexer::Indexer(const BlockContext& context, const Arrays& arrays, std::int64_t steps, KvCache& latents,
                 std::unique_ptr<Buffer>& key_memory)
    : c_(context),
      a_(arrays),
      keys_(std::move(
          KvCache::make(context.backend, std::array{key_room(context.plan, steps)}, key_memory).front())),
      latents_(latents) {
  const std::int64_t pages = c_.plan.largest().attended.size() * a_.view.max_pages;
  std::vector<std::int32_t> table;
  for (std::int64_t page = 0; page < pages; ++page) table.push_back(static_cast<std::int32_t>(page));
  c_.backend.copy_to_device(const_cast<std::int32_t*>(a_.view.page_table), table.data(),
                            table.size() * sizeof(std::int32_t));
  keys_.fill_history({.seed = c_.plan.instance().seed(),
                      .requests = c_.plan.cached_requests(),
                      .keys = Tensor::history_index_k});
}

KvView Indexer::keys(std::int64_t layer, const Work& work) {
  KvView view = keys_.layer(layer);
  view.lengths = latents_.lengths();
  return view.from_request(work.batch.cached);
}

void Indexer::project(std::int64_t layer, const Work& work, const BF16* q_latent, const RopeTable& rope,
                      const std::int64_t* positions) {
  const BF16* normed = c_.normed_attended(work);
  const AttentionSpec& a = c_.plan.model().attention;
  const IndexerSpec& spec = a.indexer;
  const LayerWeights& w = c_.weights.layer(layer);
  const std::int64_t batch = work.batch.attended.size(), hidden = c_.plan.model().hidden;
  const std::int64_t width = spec.head_dim, q_row = spec.heads * width;
  RopeTable turned = rope;
  turned.interleaved = spec.rope_interleaved;

  c_.backend.linear(batch, q_latent, a.q_lora_rank, w[Weight::index_q], a_.q, q_row);
  const HeadRows<BF16> q{a_.q, q_row, width};
  c_.backend.rope(turned, batch, spec.heads, positions, q, q);
  c_.backend.linear(batch, normed, hidden, w[Weight::index_weights], a_.weights, spec.heads);
  c_.backend.linear(batch, normed, hidden, w[Weight::index_k], a_.k, width);
  if (work.appends.front() == Append::none) return;
  const HeadRows<BF16> k{a_.k, width, width};
  c_.backend.layer_norm_heads(batch, 1, width, w.index_k_norm, w.index_k_bias,
                              static_cast<float>(IndexerSpec::key_norm_eps), k);
  c_.backend.rope(turned, batch, 1, positions, k, k);
  c_.backend.kv_append(keys(layer, work), batch, latents_.slots() + work.batch.cached, a_.k, width, nullptr,
                       0);
}

void Indexer::choose(std::int64_t layer, const Work& work) {
  const IndexerSpec& spec = c_.plan.model().attention.indexer;
  const std::int64_t batch = work.batch.attended.size(), room = a_.chosen.room;
  const std::int64_t longest = keys_.tokens_per_request();
  const float scale = 1.0f / std::sqrt(static_cast<float>(spec.heads * spec.head_dim));
  c_.backend.begin_phase(Phase::attn);
  c_.backend.index_best(keys(layer, work), batch, {a_.q, a_.weights, spec.heads, scale}, room, a_.offered,
                        a_.scores, longest);
  const int kvp = c_.plan.sharding().kvp;
  const ScoredToken* all = a_.offered;
  if (kvp > 1) {
    c_.groups.kvp->all_gather(reinterpret_cast<const std::byte*>(a_.offered),
                              reinterpret_cast<std::byte*>(a_.gathered),
                              static_cast<std::size_t>(batch * room) * sizeof(ScoredToken));
    all = a_.gathered;
  }
  c_.backend.choose_best(kvp, c_.plan.at().kvp, batch, all, a_.chosen);
}

KvView Indexer::gathered(const KvView& latents, Range requests) {
  const KvView view = a_.view.from_request(requests.begin);
  c_.backend.gather_tokens(latents.from_request(requests.begin), requests.size(),
                           a_.chosen.from_request(requests.begin), view);
  return view;
}

std::vector<std::vector<std::int32_t>> Indexer::chosen(std::int64_t requests) const {
  std::vector<std::int64_t> counts(static_cast<std::size_t>(requests));
  c_.backend.copy_to_host(counts.data(), a_.chosen.counts, counts.size() * sizeof(std::int64_t));
  std::vector<std::vector<std::int32_t>> tokens;
  for (std::size_t b = 0; b < counts.size(); ++b) {
    tokens.emplace_back(static_cast<std::size_t>(counts[b]));
    c_.backend.copy_to_host(tokens[b].data(),
                            a_.chosen.tokens + static_cast<std::int64_t>(b) * a_.chosen.room,
                            tokens[b].size() * sizeof(std::int32_t));
  }
  return tokens;
}

}  // namespace helix
