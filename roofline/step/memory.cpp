#include "roofline/step/memory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <variant>
#include <vector>

#include "roofline/base/arithmetic.hpp"
#include "roofline/step/draft_ops.hpp"
#include "roofline/step/kv_stores.hpp"
#include "roofline/step/state_ops.hpp"

namespace helix {
namespace {

/// Weight bytes that the op's rank holds: of routed experts all local ones, not only those touched.
double held_weights(const Op& op) {
  if (const auto* moe = std::get_if<MoeShape>(&op.shape)) {
    return op.bytes.weights / moe->active_experts * real(moe->local_experts);
  }
  return op.bytes.weights;
}

/// One request, attended by this rank.
DecodeShape one_request(DecodeShape shape) {
  shape.batch = 1;
  shape.hop_b = 1;
  return shape;
}

/// Of the model's layers on the longest pipeline stage, which has the draft layer, too.
double stage_share(const ModelSpec& model, const Sharding& sharding) {
  return real(ceil_div(model.layers, sharding.pp)) / real(model.layers);
}

void add_layers(HeldBytes& held, const std::vector<Op>& ops, double layers) {
  for (const Op& op : ops) {
    held.weights += held_weights(op) * layers;
    held.widest = std::max(held.widest, op.bytes.activations);
    if (const auto* collective = std::get_if<CollectiveShape>(&op.shape)) {
      held.buffers = std::max(held.buffers, 2 * collective->payload_bytes);
    }
  }
}

/// The caches of so many equal layers, in whole pages.
void add_cache(HeldBytes& held, const AttentionSpec& attention, const Sharding& sharding,
               const DecodeShape& shape, double layers) {
  const KvShard shard{.context = shape.context,
                      .tokens_per_block = shape.tokens_per_block,
                      .kvp = sharding.kvp,
                      .kv_heads = cached_kv_heads(attention, sharding, {}).size()};
  for (const KvStore& store : kv_stores(attention, shard)) {
    const double entry = layers * real(store.values) * bytes_per_value(shape.kv_dtype);
    const std::int64_t block = shape.tokens_per_block;
    held.per_request += entry * real(ceil_div(store.held, block) * block);
    if (store.held == 0) continue;  // another layer's
    const double per_token = entry / real(store.tokens_per_entry);
    const auto same = std::ranges::find(held.kv, store.full_at, &KvPerToken::full_at);
    if (same != held.kv.end()) {
      same->bytes += per_token;
    } else {
      held.kv.push_back({.full_at = store.full_at, .bytes = per_token});
    }
  }
}

}  // namespace

HeldBytes held_by_attention(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  HeldBytes held;
  for (const LayerGroup& group : model.layer_groups()) {
    add_layers(held, attention_ops({model, sharding, one_request(shape)}, group.kind), real(group.count));
    if (group.kind.mixer == Mixer::state)
      held.state += real(group.count) * state_bytes(*model.state, sharding.kvp * sharding.tpa);
    if (group.kind.mixer == Mixer::attention)
      add_cache(held, model.attention_of(group.kind), sharding, shape, real(group.count));
  }
  if (drafts(model, shape)) {
    const double whole = 1 / stage_share(model, sharding);
    const auto [layout, request] = draft_layout({model, sharding, one_request(shape)});
    add_layers(held, attention_ops({drafter(model), layout, request}, draft_layer(model)), whole);
    add_cache(held, drafter(model).attention_of(draft_layer(model)), layout, request, whole);
  }
  return held;
}

HeldBytes held_by_ffn(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  HeldBytes held;
  for (const LayerGroup& group : model.layer_groups()) {
    add_layers(held, ffn_ops({model, sharding, one_request(shape)}, group.kind), real(group.count));
  }
  if (drafts(model, shape)) {
    const auto [layout, request] = draft_layout({model, sharding, one_request(shape)});
    add_layers(held, ffn_ops({drafter(model), layout, request}, draft_layer(model)),
               1 / stage_share(model, sharding));
  }
  return held;
}

HeldBytes held_by_head(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  HeldBytes held;
  std::vector<Op> ops = head_ops({model, sharding, one_request(shape)});
  if (drafts(model, shape)) {
    const auto [layout, request] = draft_layout({model, sharding, one_request(shape)});
    std::ranges::copy(draft_input_ops({model, layout, request}), std::back_inserter(ops));
    held.weights += head_table_bytes({model, layout, request});
  }
  for (const Op& op : ops) {
    held.weights += held_weights(op);
    held.widest = std::max(held.widest, op.bytes.activations);
  }
  if (!model.tied_embeddings) {  // else the embedding is the LM head's matrix
    const int ranks = shape.whole_head ? 1 : sharding.stage_ranks();
    held.weights +=
        real(ceil_div(model.vocab, ranks) * model.hidden) * weight_format(shape, WeightPart::embedding).bytes;
  }
  return held;
}

double MemoryModel::bytes(std::int64_t batch) const {
  return weights + per_attended_request * real(ceil_div(batch, dp)) +
         per_stage_request * real(ceil_div(batch, pp));
}

std::int64_t MemoryModel::max_batch(double capacity) const {
  const double per_request = per_attended_request / dp + per_stage_request / pp;
  auto batch = static_cast<std::int64_t>(std::max(0.0, (capacity - weights) / per_request));
  while (batch > 0 && bytes(batch) > capacity) --batch;  // at most dp + pp steps: the rounding up
  return batch;
}

std::int64_t MemoryModel::max_context(std::int64_t batch, double capacity) const {
  constexpr std::int64_t longest = std::int64_t{1} << 40;
  const double others = bytes(batch) - kv_per_request * real(ceil_div(batch, dp));
  double left = (capacity - others) / real(ceil_div(batch, dp));  // for a request's pages
  const auto block = std::int64_t{tokens_per_block};
  // Layers whose window the answer exceeds hold no more than that: they are set aside one after the other.
  for (auto growing = kv.begin(); growing != kv.end(); ++growing) {
    double per_token = 0;
    for (auto layers = growing; layers != kv.end(); ++layers) per_token += layers->bytes;
    const double blocks = std::floor(std::max(0.0, left) / (per_token * real(block)) * (1 + 1e-12));
    const auto tokens = static_cast<std::int64_t>(std::min(blocks, real(longest / block))) * block;
    if (growing->full_at == 0 || growing->full_at >= tokens) return std::min(tokens, longest / kvp) * kvp;
    left -= growing->bytes * real(ceil_div(growing->full_at, block) * block);
  }
  return left >= 0 ? longest : 0;
}

std::string shortage_text(double needed_bytes, double capacity_bytes, double memory_fraction) {
  constexpr double gib = 1024.0 * 1024.0 * 1024.0;
  std::string text = fmt::format("does not fit memory: needs {:.2f} GiB per rank, has {:.2f} ({:g} of {:.2f}",
                                 needed_bytes / gib, capacity_bytes * memory_fraction / gib, memory_fraction,
                                 capacity_bytes / gib);
  if (needed_bytes <= capacity_bytes) {
    const double least = std::ceil(needed_bytes / capacity_bytes * 1000) / 1000;
    text += fmt::format("; it would with --memory-fraction {:g}", std::min(1.0, least));
  }
  return text + ")";
}

MemoryModel memory_model(const DecodeStep& step, const HeldBytes& attention, const HeldBytes& ffn,
                         const HeldBytes& head) {
  const auto& [model, sharding, shape] = step;
  const double stage = stage_share(model, sharding);
  // Residual in fp32, a bf16 vector before and after an op, what waits for its sum, and the widest op.
  const double waiting = model.blocks == Blocks::parallel ? 1 : 0;
  const double activations = real(model.hidden) * (fp32_bytes + (2 + waiting) * bf16_bytes) +
                             std::max({attention.widest, ffn.widest, head.widest});
  std::vector<KvPerToken> kv = attention.kv;
  for (KvPerToken& layers : kv) layers.bytes *= stage;
  const auto growth_end = [](const KvPerToken& layers) {
    return layers.full_at > 0 ? layers.full_at : std::numeric_limits<std::int64_t>::max();
  };
  std::ranges::sort(kv, {}, growth_end);
  return {.weights = (attention.weights + ffn.weights) * stage + head.weights,
          .per_attended_request = (attention.per_request + attention.state) * stage + attention.buffers,
          .per_stage_request = activations,
          .tokens_per_request = history_tokens(shape.context, shape.tokens_per_block, sharding.kvp, 0).size(),
          .kv_duplication = real(sharding.tpa * cached_kv_heads(model, sharding, {}).size()) /
                            real(model.attention.kv_heads),
          .dp = sharding.dp,
          .pp = sharding.pp,
          .kv = kv,
          .kv_per_request = attention.per_request * stage,
          .state_per_request = attention.state * stage,
          .kvp = sharding.kvp,
          .tokens_per_block = shape.tokens_per_block};
}

MemoryModel memory_model(const DecodeStep& step) {
  return memory_model(step, held_by_attention(step), held_by_ffn(step), held_by_head(step));
}

}  // namespace helix
