// The attention phase of a layer. Every rank of a KVP group projects the queries of the whole batch itself,
// attends over its own shard of the sequence, and after one all-to-all owns 1 / KVP of the heads.
#include <algorithm>

#include "kernels/engine/decode_engine.hpp"

namespace helix {

void DecodeEngine::attention_block(std::int64_t layer, bool own, StepObserver& observer) {
  const std::int64_t batch = now_.attended.size();
  const std::int64_t hidden = model_.hidden;
  const LayerWeights& w = weights_.layer(layer);
  const KvView cache = kv_.layer(layer - stage_layers_.begin).from_request(now_.cached);
  const Range kept = kept_rows();
  BF16* delta = a_.stream.delta;

  // 1, 2: QKV for the full batch of the DP group, RoPE, and the append on the one KVP rank whose turn it is.
  backend_.add_rms_norm(kept.size(), hidden, delta + kept.begin * hidden, layer == 0,
                        a_.stream.residual + kept.begin * hidden, w.input_norm,
                        static_cast<float>(model_.rms_eps), a_.normed + kept.begin * hidden);
  if (model_.attention.kind == AttentionKind::gqa) {
    project_gqa(w, cache, own);
  } else {
    project_mla(w, cache, own);
  }
  observer.phase_done(Phase::attn_proj);

  // 3, 4, 5: flash-decode over the local shard, all-to-all over the query-head axis, exact merge.
  const BF16* merged = sharding_.kvp > 1 ? attend_shards(cache, observer) : attend_whole(cache, observer);

  // 6, 7: MLA's W_UV on the owned heads; output projection in TP = N / DP.
  if (model_.attention.kind == AttentionKind::mla) {
    const std::int64_t v_dim = model_.attention.v_head_dim;
    backend_.linear_per_head(batch, {merged, owned_.size() * kv_shape_.v_dim, kv_shape_.v_dim},
                             w[Weight::w_uv], {a_.values, owned_.size() * v_dim, v_dim});
    merged = a_.values;
  }
  const bool others_rows = !whole_requests_ && sharding_.dp > 1;
  if (others_rows) backend_.set_bytes(delta, 0, static_cast<std::size_t>(rows() * hidden) * sizeof(BF16));
  backend_.linear(batch, merged, w[Weight::o].k, w[Weight::o], delta + now_.attended.begin * hidden, hidden);
  observer.phase_done(Phase::attn_proj);
  // Sums the heads of a DP group and brings every group's requests to all ranks, which share the FFN.
  if (!whole_requests_) groups_.stage->all_reduce_sum(delta, rows() * hidden);
  observer.phase_done(Phase::attn_allreduce);
}

void DecodeEngine::project_gqa(const LayerWeights& w, const KvView& cache, bool own) {
  const std::int64_t batch = now_.attended.size();
  const std::int64_t* positions = a_.positions + now_.cached;
  const BF16* normed = a_.normed + now_.attended.begin * model_.hidden;
  const std::int64_t dim = model_.attention.qk_head_dim;
  const std::int64_t row = w[Weight::qkv].n;
  BF16* k = a_.qkv + heads_.size() * dim;
  BF16* v = k + kv_heads_.size() * dim;

  backend_.linear(batch, normed, model_.hidden, w[Weight::qkv], a_.qkv, row);
  if (w.q_norm != nullptr) {
    const auto eps = static_cast<float>(model_.rms_eps);
    backend_.rms_norm_heads(batch, heads_.size(), dim, w.q_norm, eps, {a_.qkv, row, dim});
    backend_.rms_norm_heads(batch, kv_heads_.size(), dim, w.k_norm, eps, {k, row, dim});
  }
  backend_.rope(rope_, batch, heads_.size(), positions, {a_.qkv, row, dim}, {a_.q, heads_.size() * dim, dim});
  if (own) {
    backend_.rope(rope_, batch, kv_heads_.size(), positions, {k, row, dim}, {k, row, dim});
    backend_.kv_append(cache, batch, kv_.slots() + now_.cached, k, row, v, row);
  }
}

void DecodeEngine::project_mla(const LayerWeights& w, const KvView& cache, bool own) {
  const AttentionSpec& a = model_.attention;
  const std::int64_t batch = now_.attended.size();
  const std::int64_t* positions = a_.positions + now_.cached;
  const BF16* normed = a_.normed + now_.attended.begin * model_.hidden;
  const auto eps = static_cast<float>(AttentionSpec::latent_norm_eps);
  const std::int64_t latent = a.kv_lora_rank;
  const std::int64_t q_row = heads_.size() * a.qk_head_dim;
  const std::int64_t absorbed_row = heads_.size() * kv_shape_.head_dim;

  if (a.q_lora_rank > 0) {
    backend_.linear(batch, normed, model_.hidden, w[Weight::q_a], a_.q_a, a.q_lora_rank);
    backend_.rms_norm_heads(batch, 1, a.q_lora_rank, w.q_a_norm, eps, {a_.q_a, a.q_lora_rank, a.q_lora_rank});
    backend_.linear(batch, a_.q_a, a.q_lora_rank, w[Weight::q_b], a_.q_heads, q_row);
  } else {
    backend_.linear(batch, normed, model_.hidden, w[Weight::q], a_.q_heads, q_row);
  }
  // Absorbed form: the queries go to the latent space, so that the cache is read as it is.
  backend_.linear_per_head(batch, {a_.q_heads, q_row, a.qk_head_dim}, w[Weight::w_uk],
                           {a_.q, absorbed_row, kv_shape_.head_dim});
  backend_.rope(rope_, batch, heads_.size(), positions,
                {a_.q_heads + a.qk_nope_head_dim, q_row, a.qk_head_dim},
                {a_.q + latent, absorbed_row, kv_shape_.head_dim});

  // Every rank computes the new latent row (the weights are replicated anyway); the owner keeps it.
  const std::int64_t kv_row = kv_shape_.head_dim;
  backend_.linear(batch, normed, model_.hidden, w[Weight::kv_a], a_.kv_row, kv_row);
  if (own) {
    backend_.rms_norm_heads(batch, 1, latent, w.kv_a_norm, eps, {a_.kv_row, kv_row, latent});
    const HeadRows<BF16> rotated{a_.kv_row + latent, kv_row, a.qk_rope_head_dim};
    backend_.rope(rope_, batch, 1, positions, rotated, rotated);
    backend_.kv_append(cache, batch, kv_.slots() + now_.cached, a_.kv_row, kv_row, nullptr, 0);
  }
}

void DecodeEngine::attend(const KvView& cache, Range requests) {
  const std::int64_t q_row = heads_.size() * kv_shape_.head_dim, o_row = heads_.size() * kv_shape_.v_dim;
  backend_.attention(cache.from_request(requests.begin), requests.size(), heads_.size(), scale_,
                     a_.q + requests.begin * q_row, a_.o + requests.begin * o_row,
                     a_.lse + requests.begin * heads_.size(), a_.scratch);
}

const BF16* DecodeEngine::attend_whole(const KvView& cache, StepObserver& observer) {
  attend(cache, {0, now_.attended.size()});
  observer.phase_done(Phase::attn);
  return a_.o;
}

int DecodeEngine::hop_pieces(std::int64_t requests) const {
  return static_cast<int>(std::min<std::int64_t>(shape_.hop_b, requests));
}

PartialShape DecodeEngine::partials(std::int64_t requests) const {
  return {.parts = sharding_.kvp, .batch = requests, .heads = owned_.size(), .v_dim = kv_shape_.v_dim};
}

// HOP-B: the all-to-all of a piece of the batch is on its way while the next pieces are attended. Arrivals
// are merged at the end, when no attention is left to delay and the last piece still travels. In one piece
// there is nothing to overlap with.
const BF16* DecodeEngine::attend_shards(const KvView& cache, StepObserver& observer) {
  const std::int64_t batch = now_.attended.size();
  const int pieces = hop_pieces(batch);
  const auto requests = [&](int piece) { return even_split(batch, pieces, piece); };
  const PartialShape largest = partials(requests(0).size());
  const auto slot_at = [&](int piece) {
    return static_cast<std::size_t>(piece * largest.parts) * largest.chunk_bytes();
  };
  for (int piece = 0; piece < pieces; ++piece) {
    const Range r = requests(piece);
    const PartialShape shape = partials(r.size());
    attend(cache, r);
    observer.phase_done(Phase::attn);
    backend_.pack_partials(shape, a_.o + r.begin * heads_.size() * kv_shape_.v_dim,
                           a_.lse + r.begin * heads_.size(), a_.send + slot_at(piece));
    observer.phase_done(Phase::merge);
    if (pieces > 1) {
      groups_.kvp->start_all_to_all(piece, a_.send + slot_at(piece), a_.recv + slot_at(piece),
                                    shape.chunk_bytes());
    } else {
      groups_.kvp->all_to_all(a_.send, a_.recv, shape.chunk_bytes());
    }
    observer.phase_done(Phase::a2a);
  }
  for (int piece = 0; piece < pieces; ++piece) {
    const Range r = requests(piece);
    if (pieces > 1) groups_.kvp->finish_all_to_all(piece);
    observer.phase_done(Phase::a2a);
    backend_.merge_partials(partials(r.size()), a_.recv + slot_at(piece),
                            a_.merged + r.begin * owned_.size() * kv_shape_.v_dim);
    observer.phase_done(Phase::merge);
  }
  return a_.merged;
}

}  // namespace helix
