// The attention phase of a layer. Every rank of a KVP group projects the queries of the whole batch itself,
// attends over its own shard of the sequence, and after one all-to-all owns 1 / KVP of the heads.
#include "kernels/decode_engine.hpp"

namespace helix {

void DecodeEngine::attention_block(std::int64_t layer, StepObserver& observer) {
  const std::int64_t batch = shape_.batch;
  const LayerWeights& w = weights_.layer(layer);
  const bool own = append_owner(step_, shape_.tokens_per_block, sharding_.kvp) == at_.kvp;

  // 1, 2: QKV for the full batch, RoPE, and the append on the one KVP rank whose turn it is.
  backend_.add_rms_norm(batch, model_.hidden, a_.delta, layer == 0, a_.residual, w.input_norm,
                        static_cast<float>(model_.rms_eps), a_.normed);
  if (model_.attention.kind == AttentionKind::gqa) {
    project_gqa(layer, own);
  } else {
    project_mla(layer, own);
  }
  observer.phase_done(Phase::attn_proj);

  // 3: flash-decode over the local shard.
  backend_.attention(kv_.layer(layer), batch, heads_.size(), scale_, a_.q, a_.o, a_.lse, a_.scratch);
  observer.phase_done(Phase::attn);

  // 4, 5: all-to-all over the query-head axis, exact merge.
  const BF16* merged = sharding_.kvp > 1 ? exchange_partials(observer) : a_.o;

  // 6, 7: MLA's W_UV on the owned heads; output projection in TP = N.
  if (model_.attention.kind == AttentionKind::mla) {
    const std::int64_t v_dim = model_.attention.v_head_dim;
    backend_.linear_per_head(batch, merged, owned_.size() * kv_shape_.v_dim, kv_shape_.v_dim, w[Weight::w_uv],
                             a_.values, owned_.size() * v_dim, v_dim);
    merged = a_.values;
  }
  backend_.linear(batch, merged, w[Weight::o].k, w[Weight::o], a_.delta, model_.hidden);
  observer.phase_done(Phase::attn_proj);
  groups_.stage->all_reduce_sum(a_.delta, batch * model_.hidden);
  observer.phase_done(Phase::attn_allreduce);
}

void DecodeEngine::project_gqa(std::int64_t layer, bool own) {
  const LayerWeights& w = weights_.layer(layer);
  const std::int64_t batch = shape_.batch;
  const std::int64_t dim = model_.attention.qk_head_dim;
  const std::int64_t row = w[Weight::qkv].n;
  BF16* k = a_.qkv + heads_.size() * dim;
  BF16* v = k + kv_heads_.size() * dim;

  backend_.linear(batch, a_.normed, model_.hidden, w[Weight::qkv], a_.qkv, row);
  if (w.q_norm != nullptr) {
    const auto eps = static_cast<float>(model_.rms_eps);
    backend_.rms_norm_heads(batch, heads_.size(), dim, row, dim, w.q_norm, eps, a_.qkv);
    backend_.rms_norm_heads(batch, kv_heads_.size(), dim, row, dim, w.k_norm, eps, k);
  }
  backend_.rope(rope_, batch, heads_.size(), a_.positions, a_.qkv, row, dim, a_.q, heads_.size() * dim, dim);
  if (own) {
    backend_.rope(rope_, batch, kv_heads_.size(), a_.positions, k, row, dim, k, row, dim);
    backend_.kv_append(kv_.layer(layer), batch, kv_.slots(), k, row, v, row);
  }
}

void DecodeEngine::project_mla(std::int64_t layer, bool own) {
  const LayerWeights& w = weights_.layer(layer);
  const AttentionSpec& a = model_.attention;
  const std::int64_t batch = shape_.batch;
  const auto eps = static_cast<float>(model_.rms_eps);
  const std::int64_t latent = a.kv_lora_rank;
  const std::int64_t q_row = heads_.size() * a.qk_head_dim;
  const std::int64_t absorbed_row = heads_.size() * kv_shape_.head_dim;

  if (a.q_lora_rank > 0) {
    backend_.linear(batch, a_.normed, model_.hidden, w[Weight::q_a], a_.q_a, a.q_lora_rank);
    backend_.rms_norm_heads(batch, 1, a.q_lora_rank, a.q_lora_rank, a.q_lora_rank, w.q_a_norm, eps, a_.q_a);
    backend_.linear(batch, a_.q_a, a.q_lora_rank, w[Weight::q_b], a_.q_heads, q_row);
  } else {
    backend_.linear(batch, a_.normed, model_.hidden, w[Weight::q], a_.q_heads, q_row);
  }
  // Absorbed form: the queries go to the latent space, so that the cache is read as it is.
  backend_.linear_per_head(batch, a_.q_heads, q_row, a.qk_head_dim, w[Weight::w_uk], a_.q, absorbed_row,
                           kv_shape_.head_dim);
  backend_.rope(rope_, batch, heads_.size(), a_.positions, a_.q_heads + a.qk_nope_head_dim, q_row,
                a.qk_head_dim, a_.q + latent, absorbed_row, kv_shape_.head_dim);

  // Every rank computes the new latent row (the weights are replicated anyway); the owner keeps it.
  const std::int64_t kv_row = kv_shape_.head_dim;
  backend_.linear(batch, a_.normed, model_.hidden, w[Weight::kv_a], a_.kv_row, kv_row);
  if (own) {
    backend_.rms_norm_heads(batch, 1, latent, kv_row, latent, w.kv_a_norm, eps, a_.kv_row);
    backend_.rope(rope_, batch, 1, a_.positions, a_.kv_row + latent, kv_row, a.qk_rope_head_dim,
                  a_.kv_row + latent, kv_row, a.qk_rope_head_dim);
    backend_.kv_append(kv_.layer(layer), batch, kv_.slots(), a_.kv_row, kv_row, nullptr, 0);
  }
}

const BF16* DecodeEngine::exchange_partials(StepObserver& observer) {
  backend_.pack_partials(partials_, a_.o, a_.lse, a_.send);
  observer.phase_done(Phase::merge);
  groups_.kvp->all_to_all(a_.send, a_.recv, partials_.chunk_bytes());
  observer.phase_done(Phase::a2a);
  backend_.merge_partials(partials_, a_.recv, a_.merged);
  observer.phase_done(Phase::merge);
  return a_.merged;
}

}  // namespace helix
