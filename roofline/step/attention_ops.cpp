#include <algorithm>
#include <cmath>

#include "roofline/step/op_list.hpp"

namespace helix {
namespace {

double align16(double bytes) {
  return std::ceil(bytes / 16) * 16;
}

/// What the rank with index 0 on every axis owns, the busiest by construction (low parts hold the extra).
struct AttentionShard {
  std::int64_t q_heads, owned_heads, kv_heads, tokens, batch;
  std::int64_t rows;  // computed for them
};

AttentionShard attention_shard(const ModelSpec& model, std::int64_t window, const Sharding& sharding,
                               const DecodeShape& shape) {
  const RankCoords first;
  std::int64_t tokens = history_tokens(shape.context, shape.tokens_per_block, sharding.kvp, 0).size();
  if (window > 0) tokens = std::min(tokens, window);
  return {.q_heads = query_heads(model, sharding, first).size(),
          .owned_heads = owned_heads(model, sharding, first).size(),
          .kv_heads = cached_kv_heads(model, sharding, first).size(),
          .tokens = tokens,
          .batch = attended_batch(sharding, shape),
          .rows = computed_rows(sharding, shape)};
}

void gqa_projections(OpList& ops, const ModelSpec& model, const AttentionShard& shard, DType kv_dtype) {
  const AttentionSpec& a = model.attention;
  const std::int64_t b = shard.rows;
  const std::int64_t q = shard.q_heads * a.qk_head_dim;
  const std::int64_t kv = shard.kv_heads * (a.qk_head_dim + a.v_head_dim);
  ops.gemm("qkv projection", Phase::attn_proj, {.m = b, .n = q + kv, .k = model.hidden});
  const double rotated = real(b * (shard.q_heads + shard.kv_heads) * a.qk_head_dim) * 2 * bf16_bytes;
  if (a.qk_norm) ops.elementwise("q and k norm", Phase::attn_proj, rotated);
  ops.elementwise("rope", Phase::attn_proj, rotated, fused_on_gpu);
  ops.elementwise("kv append", Phase::attn_proj, real(b * kv) * (bf16_bytes + bytes_per_value(kv_dtype)),
                  fused_on_gpu);
}

void mla_projections(OpList& ops, const ModelSpec& model, const AttentionShard& shard, DType kv_dtype) {
  const AttentionSpec& a = model.attention;
  const std::int64_t b = shard.rows;
  const std::int64_t q = shard.q_heads * a.qk_head_dim;
  const std::int64_t row = a.kv_lora_rank + a.qk_rope_head_dim;
  const bool low_rank_q = a.q_lora_rank > 0;
  if (low_rank_q) {
    ops.gemm("q_a projection", Phase::attn_proj, {.m = b, .n = a.q_lora_rank, .k = model.hidden});
    ops.elementwise("q_a norm", Phase::attn_proj, real(b * a.q_lora_rank) * 2 * bf16_bytes);
  }
  ops.gemm("q_b projection", Phase::attn_proj,
           {.m = b, .n = q, .k = low_rank_q ? a.q_lora_rank : model.hidden});
  ops.gemm("kv_a projection", Phase::attn_proj,
           {.m = b, .n = row, .k = model.hidden, .fused_on_gpu = fused_on_gpu});
  ops.elementwise("kv_a norm", Phase::attn_proj, real(b * a.kv_lora_rank) * 2 * bf16_bytes);
  ops.elementwise("rope", Phase::attn_proj,
                  real(b * (shard.q_heads + 1) * a.qk_rope_head_dim) * 2 * bf16_bytes, fused_on_gpu);
  ops.elementwise("kv append", Phase::attn_proj, real(b * row) * (bf16_bytes + bytes_per_value(kv_dtype)),
                  fused_on_gpu);
  ops.gemm("W_UK", Phase::attn_proj,
           {.m = b, .n = a.kv_lora_rank, .k = a.qk_nope_head_dim, .matrices = shard.q_heads});
}

}  // namespace

std::vector<Op> attention_ops(const ModelSpec& model, std::int64_t window, const Sharding& sharding,
                              const DecodeShape& shape) {
  const AttentionSpec& a = model.attention;
  const bool mla = a.kind == AttentionKind::mla;
  const AttentionShard shard = attention_shard(model, window, sharding, shape);
  const bool follows_all_reduce = all_reduces(sharding);  // whose kernel does it on a GPU
  OpList ops(weight_format(shape, WeightPart::attention));
  ops.elementwise("attention norm", Phase::attn_proj, add_norm_bytes(shard.rows, model.hidden),
                  follows_all_reduce);
  if (mla) {
    mla_projections(ops, model, shard, shape.kv_dtype);
  } else {
    gqa_projections(ops, model, shard, shape.kv_dtype);
  }

  // Widths of a query, of its partial output and of what is cached per token.
  const std::int64_t key_dim = mla ? a.kv_lora_rank + a.qk_rope_head_dim : a.qk_head_dim;
  const std::int64_t out_dim = mla ? a.kv_lora_rank : a.v_head_dim;
  const std::int64_t cached = mla ? key_dim : shard.kv_heads * (a.qk_head_dim + a.v_head_dim);

  const std::int64_t micro_batches = std::clamp<std::int64_t>(shape.hop_b, 1, shard.batch);
  const std::int64_t mb = ceil_div(shard.batch, micro_batches);
  const double tokens = real(mb * shard.tokens);
  ops.repeat(real(micro_batches));
  ops.add({.name = "attention",
           .phase = Phase::attn,
           .shape = AttentionShape{.kind = a.kind,
                                   .batch = mb,
                                   .q_heads = shard.q_heads,
                                   .kv_heads = shard.kv_heads,
                                   .head_dim = key_dim,
                                   .v_dim = out_dim,
                                   .tokens = shard.tokens},
           .dtype = shape.kv_dtype,
           .bytes = {.kv = tokens * real(cached) * bytes_per_value(shape.kv_dtype),
                     .activations = real(mb * shard.q_heads * (key_dim + out_dim)) * bf16_bytes},
           .flops = 2 * tokens * real(shard.q_heads * (key_dim + out_dim))});
  if (sharding.kvp > 1) {
    // Every peer gets its heads' partial outputs and log-sum-exps in one chunk:
    // PartialShape of kernels/ops/ops.hpp.
    const double outputs = real(mb * shard.owned_heads * out_dim) * bf16_bytes;
    const double chunk = align16(align16(outputs) + real(mb * shard.owned_heads) * fp32_bytes);
    const double packed = chunk * sharding.kvp;
    ops.elementwise("pack", Phase::merge, 2 * packed, fused_on_gpu);  // GPU: stored straight to the peers
    ops.collective("partials all-to-all", Phase::a2a,
                   {.op = Collective::all_to_all, .group = sharding.kvp, .payload_bytes = packed});
    ops.elementwise("merge", Phase::merge, packed + outputs);
  }
  ops.repeat(1);

  if (mla) {
    ops.gemm("W_UV", Phase::attn_proj,
             {.m = shard.rows, .n = a.v_head_dim, .k = a.kv_lora_rank, .matrices = shard.owned_heads});
  }
  ops.gemm("output projection", Phase::attn_proj,
           {.m = shard.rows, .n = model.hidden, .k = shard.owned_heads * a.v_head_dim},
           weight_format(shape, WeightPart::output_projection));
  return ops.take();
}

}  // namespace helix
