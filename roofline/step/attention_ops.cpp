#include <algorithm>

#include "roofline/step/op_list.hpp"
#include "roofline/step/rank_plan.hpp"

namespace helix {
namespace {

/// Of the rank with index 0 on every axis, the busiest by construction (low parts hold the extra).
struct AttentionShard {
  AttentionPart part;
  std::int64_t batch, tokens;
  std::int64_t rows;  // computed for them
};

AttentionShard attention_shard(const ModelSpec& model, std::int64_t window, const Sharding& sharding,
                               const DecodeShape& shape) {
  const AttentionPart part = attention_part(model, sharding, {}, shape);
  const std::int64_t tokens = part.history.size();
  return {.part = part,
          .batch = attended_batch(sharding, shape),
          .tokens = window > 0 ? std::min(tokens, window) : tokens,
          .rows = computed_rows(sharding, shape)};
}

void gqa_projections(OpList& ops, const ModelSpec& model, const AttentionShard& shard, DType kv_dtype) {
  const AttentionSpec& a = model.attention;
  const std::int64_t b = shard.rows;
  const std::int64_t q = shard.part.heads.size() * a.qk_head_dim;
  const std::int64_t kv = shard.part.cache.values_per_token();
  ops.gemm("qkv projection", Phase::attn_proj, {.m = b, .n = q + kv, .k = model.hidden});
  const double rotated =
      real(b * (shard.part.heads.size() + shard.part.kv_heads.size()) * a.qk_head_dim) * 2 * bf16_bytes;
  if (a.qk_norm) ops.elementwise("q and k norm", Phase::attn_proj, rotated);
  ops.elementwise("rope", Phase::attn_proj, rotated, fused_on_gpu);
  ops.elementwise("kv append", Phase::attn_proj, real(b * kv) * (bf16_bytes + bytes_per_value(kv_dtype)),
                  fused_on_gpu);
}

void mla_projections(OpList& ops, const ModelSpec& model, const AttentionShard& shard, DType kv_dtype) {
  const AttentionSpec& a = model.attention;
  const std::int64_t b = shard.rows;
  const std::int64_t q = shard.part.heads.size() * a.qk_head_dim;
  const std::int64_t row = shard.part.cache.values_per_token();
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
                  real(b * (shard.part.heads.size() + 1) * a.qk_rope_head_dim) * 2 * bf16_bytes,
                  fused_on_gpu);
  ops.elementwise("kv append", Phase::attn_proj, real(b * row) * (bf16_bytes + bytes_per_value(kv_dtype)),
                  fused_on_gpu);
  ops.gemm("W_UK", Phase::attn_proj,
           {.m = b, .n = a.kv_lora_rank, .k = a.qk_nope_head_dim, .matrices = shard.part.heads.size()});
}

}  // namespace

std::vector<Op> attention_ops(const ModelSpec& model, std::int64_t window, const Sharding& sharding,
                              const DecodeShape& shape) {
  const AttentionSpec& a = model.attention;
  const bool mla = a.kind == AttentionKind::mla;
  const AttentionShard shard = attention_shard(model, window, sharding, shape);
  const bool follows_all_reduce = all_reduces(sharding);  // whose kernel does it on a GPU
  OpList ops(weight_format(shape, WeightPart::attention));
  ops.elementwise("attention norm", Phase::attn_proj,
                  add_norm_bytes(kept_rows(sharding, shape), model.hidden), follows_all_reduce);
  if (mla) {
    mla_projections(ops, model, shard, shape.kv_dtype);
  } else {
    gqa_projections(ops, model, shard, shape.kv_dtype);
  }

  const KvShape& cache = shard.part.cache;
  const std::int64_t q_heads = shard.part.heads.size();
  const Pieces pieces = shard.part.pieces(shard.batch);
  const std::int64_t requests = pieces.largest();
  const double tokens = real(requests * shard.tokens);
  ops.repeat(real(pieces.count));
  ops.add({.name = "attention",
           .phase = Phase::attn,
           .shape = AttentionShape{.kind = a.kind,
                                   .batch = requests,
                                   .q_heads = q_heads,
                                   .kv_heads = cache.kv_heads,
                                   .head_dim = cache.head_dim,
                                   .v_dim = cache.v_dim,
                                   .tokens = shard.tokens},
           .dtype = cache.dtype,
           .bytes = {.kv = tokens * cache.bytes_per_token(),
                     .activations = real(requests * q_heads * (cache.head_dim + cache.v_dim)) * bf16_bytes},
           .flops = 2 * tokens * real(q_heads * (cache.head_dim + cache.v_dim))});
  if (sharding.kvp > 1) {
    const PartialShape partials = shard.part.partials(requests);
    const double packed = static_cast<double>(partials.chunk_bytes()) * sharding.kvp;
    ops.elementwise("pack", Phase::merge, 2 * packed, fused_on_gpu);  // GPU: stored straight to the peers
    ops.collective("partials all-to-all", Phase::a2a,
                   {.op = Collective::all_to_all, .group = sharding.kvp, .payload_bytes = packed});
    ops.elementwise("merge", Phase::merge, packed + static_cast<double>(partials.output_bytes()));
  }
  ops.repeat(1);

  if (mla) {
    ops.gemm("W_UV", Phase::attn_proj,
             {.m = shard.rows, .n = a.v_head_dim, .k = a.kv_lora_rank, .matrices = shard.part.owned.size()});
  }
  ops.gemm("output projection", Phase::attn_proj,
           {.m = shard.rows, .n = model.hidden, .k = shard.part.owned.size() * a.v_head_dim},
           weight_format(shape, WeightPart::output_projection));
  return ops.take();
}

}  // namespace helix
