// why_illegal: the rules that widths and shapes obey, each with a reason that names the numbers.
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <utility>

#include "roofline/base/arithmetic.hpp"
#include "roofline/step/draft_ops.hpp"

namespace helix {
namespace {

// Far above any machine and any request, and low enough that no product of widths or tokens
// overflows 64 bits.
constexpr std::int64_t max_ranks = std::int64_t{1} << 20;
constexpr std::int64_t max_context = std::int64_t{1} << 40;
constexpr std::int64_t max_batch = std::int64_t{1} << 22;
constexpr int max_draft_tokens = 63;
constexpr int max_redundant_experts = (1 << 14) - 1;

using Reason = std::optional<std::string>;

Reason illegal_widths(const Sharding& s) {
  const std::pair<std::string_view, int> widths[] = {{"kvp", s.kvp}, {"tpa", s.tpa}, {"tpf", s.tpf},
                                                     {"ep", s.ep},   {"pp", s.pp},   {"dp", s.dp}};
  for (const auto& [width_name, width] : widths) {
    if (width < 1 || width > max_ranks) {
      return fmt::format("{}={}: a width is from 1 to {}", width_name, width, max_ranks);
    }
  }
  const std::int64_t stage = std::int64_t{s.dp} * s.kvp * s.tpa;
  if (stage > max_ranks || stage * s.pp > max_ranks) {
    return fmt::format("dp={} x kvp={} x tpa={} x pp={}: more than {} ranks", s.dp, s.kvp, s.tpa, s.pp,
                       max_ranks);
  }
  return std::nullopt;
}

Reason illegal_shape(const Sharding& s, const DecodeShape& shape) {
  if (shape.context < 0 || shape.context > max_context) {
    return fmt::format("context={}: a context is from 0, an empty cache, to {} tokens", shape.context,
                       max_context);
  }
  if (shape.batch < 1 || shape.batch > max_batch) {
    return fmt::format("batch={}: a batch is from 1 to {} requests", shape.batch, max_batch);
  }
  if (shape.draft_tokens < 0 || shape.draft_tokens > max_draft_tokens) {
    return fmt::format("draft_tokens={}: drafts are from 0 to {} tokens", shape.draft_tokens,
                       max_draft_tokens);
  }
  if (shape.redundant_experts < 0 || shape.redundant_experts > max_redundant_experts) {
    return fmt::format("redundant_experts={}: copies are from 0 to {}", shape.redundant_experts,
                       max_redundant_experts);
  }
  if (shape.batch > max_batch / shape.query_tokens()) {
    return fmt::format("batch={} with draft_tokens={}: a step has at most {} tokens", shape.batch,
                       shape.draft_tokens, max_batch);
  }
  if (shape.acceptance != 0 && (shape.acceptance < 1 || shape.acceptance > real(shape.query_tokens()))) {
    return fmt::format("acceptance={:g}: a step with {} drafted tokens yields from 1 to {}", shape.acceptance,
                       shape.draft_tokens, shape.query_tokens());
  }
  if (shape.tokens_per_block < 1) {
    return fmt::format("tokens_per_block={}: a block has at least 1 token", shape.tokens_per_block);
  }
  if (shape.batch < s.dp) {
    return fmt::format("batch={} leaves some of dp={} groups without a request", shape.batch, s.dp);
  }
  if (shape.hop_b < 1 || shape.hop_b > shape.batch / s.dp) {
    return fmt::format("hop_b={}: pieces are from 1 to the {} requests of a group (batch={}, dp={})",
                       shape.hop_b, shape.batch / s.dp, shape.batch, s.dp);
  }
  return std::nullopt;
}

/// Widths that a strategy does not use, and whether both phases fill the same ranks.
Reason illegal_grid(Strategy strategy, const Sharding& s) {
  const auto rule = broken_rule(traits(strategy), s);
  if (!rule) return std::nullopt;
  return fmt::format("{} needs {}: kvp={}, tpa={}, tpf={}, ep={}, dp={}, pp={}", name(strategy), *rule, s.kvp,
                     s.tpa, s.tpf, s.ep, s.dp, s.pp);
}

/// MLA caches one latent for all heads, so K = 1: KV-parallel strategies cannot split it over TPA, while
/// under tp every rank caches it whole.
Reason illegal_heads(const AttentionSpec& attention, Strategy strategy, const Sharding& s) {
  const std::int64_t q = attention.q_heads, k = attention.kv_heads;
  const std::string_view kv = attention.kind == AttentionKind::mla ? "KV head (the MLA latent)" : "KV heads";
  if (traits(strategy).cuts_group && s.tpa < k)
    return fmt::format("{} cuts heads first and needs TPA >= K: tpa={}, {} {}", name(strategy), s.tpa, k, kv);
  if (traits(strategy).divides_kv_heads) {
    if (s.tpa > k) return fmt::format("{} needs TPA <= K: tpa={}, {} {}", name(strategy), s.tpa, k, kv);
    if (k % s.tpa != 0)
      return fmt::format("{} needs TPA to divide K: tpa={}, {} {}", name(strategy), s.tpa, k, kv);
  } else if (k % s.tpa != 0 && s.tpa % k != 0) {
    return fmt::format("TPA and K must divide one another: tpa={}, {} {}", s.tpa, k, kv);
  }
  // After the all-to-all each rank of a KVP group owns an equal part of the heads that the
  // group attends with.
  if (q % (std::int64_t{s.tpa} * s.kvp) != 0) {
    return fmt::format("TPA x KVP must divide Q: tpa={}, kvp={}, {} query heads", s.tpa, s.kvp, q);
  }
  return std::nullopt;
}

Reason illegal_ffn(const ModelSpec& model, Strategy strategy, const Sharding& s, int redundant) {
  const MoeSpec& moe = model.moe;
  if (redundant > 0 && s.ep == 1)
    return fmt::format("redundant_experts={}: copies of experts are for other ranks, and EP is 1", redundant);
  if (redundant > moe.experts * (s.ep - std::int64_t{1})) {
    return fmt::format(
        "redundant_experts={}: more than a copy of each of {} experts on every one of ep={} ranks", redundant,
        moe.experts, s.ep);
  }
  if (moe.experts == 0 && traits(strategy).ffn == FfnGrid::whole_experts)
    return fmt::format("{} needs a MoE model: {} is dense", name(strategy), model.name);
  if (moe.experts == 0 && s.ep > 1)
    return fmt::format("EP > 1 needs a MoE model: ep={}, {} is dense", s.ep, model.name);

  // What no expert owns is split over all ranks of the FFN, the shared experts included.
  const std::int64_t ranks = std::int64_t{s.tpf} * s.ep;
  if (model.has_dense_ffn() && model.ffn % ranks != 0) {
    return fmt::format("TPF x EP must divide the dense FFN: tpf={}, ep={}, width {}", s.tpf, s.ep, model.ffn);
  }
  if (moe.experts == 0) return std::nullopt;
  if ((moe.experts + redundant) % s.ep != 0) {
    return fmt::format("EP must divide the experts: ep={}, {} experts{}", s.ep, moe.experts,
                       redundant > 0 ? fmt::format(" and {} copies", redundant) : "");
  }
  if (moe.expert_ffn % s.tpf != 0) {
    return fmt::format("TPF must divide the expert FFN: tpf={}, width {}", s.tpf, moe.expert_ffn);
  }
  if (moe.shared_ffn % ranks != 0) {
    return fmt::format("TPF x EP must divide the shared experts' FFN: tpf={}, ep={}, width {}", s.tpf, s.ep,
                       moe.shared_ffn);
  }
  return std::nullopt;
}

/// Local drafts are attended as under tp, by all ranks that share the other caches.
Reason illegal_local_drafts(const AttentionSpec& attention, const Sharding& s) {
  const std::int64_t q = attention.q_heads, k = attention.kv_heads;
  const std::int64_t tp = std::int64_t{s.tpa} * s.kvp;
  if (q % tp != 0)
    return fmt::format("draft_kv=local: TPA x KVP must divide Q: tpa={}, kvp={}, {} query heads", s.tpa,
                       s.kvp, q);
  if (k % tp == 0 || tp % k == 0) return std::nullopt;
  return fmt::format("draft_kv=local: TPA x KVP and K must divide one another: tpa={}, kvp={}, {} KV heads",
                     s.tpa, s.kvp, k);
}

Reason illegal_drafts(const ModelSpec& model, Strategy strategy, const Sharding& s,
                      const DecodeShape& shape) {
  const AttentionSpec& attention = drafter(model).attention_of(draft_layer(model));
  Reason reason;
  if (shape.draft_kv == DraftKv::local)
    reason = illegal_local_drafts(attention, s);
  else if (model.draft_head)
    reason = illegal_heads(attention, strategy, s);
  if (!model.draft_head) return reason;
  const ModelSpec& head = *model.draft_head;
  if (!reason && head.ffn % (std::int64_t{s.tpf} * s.ep) != 0)
    reason = fmt::format("TPF x EP must divide the FFN: tpf={}, ep={}, width {}", s.tpf, s.ep, head.ffn);
  if (reason) reason = fmt::format("draft head {}: {}", head.name, *reason);
  return reason;
}

}  // namespace

Reason why_illegal(const ModelSpec& model, Strategy strategy, const Sharding& sharding,
                   const DecodeShape& shape) {
  if (Reason reason = illegal_widths(sharding)) return reason;
  if (Reason reason = illegal_shape(sharding, shape)) return reason;
  if (Reason reason = illegal_grid(strategy, sharding)) return reason;
  if (Reason reason = illegal_heads(model.attention, strategy, sharding)) return reason;
  for (const AttentionSpec& other : model.other_attention) {
    if (Reason reason = illegal_heads(other, strategy, sharding)) return reason;
  }
  if (Reason reason = illegal_ffn(model, strategy, sharding, shape.redundant_experts)) return reason;
  if (drafts(model, shape)) {
    if (Reason reason = illegal_drafts(model, strategy, sharding, shape)) return reason;
  }
  if (shape.draft_tokens > 0 && model.state) {
    return fmt::format(
        "draft_tokens={}: layers with a state keep one for each drafted token, which is not modelled",
        shape.draft_tokens);
  }
  if (sharding.pp > model.layers) {
    return fmt::format("a pipeline stage needs a layer: pp={}, {} layers", sharding.pp, model.layers);
  }
  return std::nullopt;
}

}  // namespace helix
