#include <algorithm>

#include "roofline/step/kv_stores.hpp"
#include "roofline/step/op_list.hpp"
#include "roofline/step/rank_plan.hpp"
#include "roofline/step/state_ops.hpp"

namespace helix {
namespace {

/// What the rank with index 0 on every axis owns, the busiest by construction (low parts hold the extra).
struct AttentionShard {
  AttentionPart part;
  std::int64_t q_heads = 0, owned_heads = 0, kv_heads = 0, batch = 0;
  std::int64_t rows = 0;             // computed for them
  std::int64_t projected_heads = 0;  // queries computed here; the others' are gathered from the KVP peers
  std::int64_t tokens = 0;           // cached entries that a step can attend
  std::int64_t attended = 0;         // those that it does
  std::int64_t keys = 0;             // that an indexer scores
};

AttentionShard attention_shard(const AttentionSpec& attention, const Sharding& sharding,
                               const DecodeShape& shape) {
  const AttentionPart part = attention_part(attention, sharding, {}, shape);
  AttentionShard shard{.part = part,
                       .q_heads = part.heads.size(),
                       .owned_heads = part.owned.size(),
                       .kv_heads = part.kv_heads.size(),
                       .batch = attended_batch(sharding, shape),
                       .rows = computed_rows(sharding, shape)};
  const bool gathers = shape.exchange.queries == CacheExchange::Queries::gathered;
  shard.projected_heads = gathers ? shard.owned_heads : shard.q_heads;
  for (const KvStore& store : kv_stores(attention, {.context = shape.context,
                                                   .tokens_per_block = shape.tokens_per_block,
                                                   .kvp = sharding.kvp,
                                                   .kv_heads = shard.kv_heads})) {
    if (store.index_keys) {
      shard.keys += store.read;
    } else {
      shard.tokens += store.present;
      shard.attended += store.read;
    }
  }
  return shard;
}

/// One product for all, or two for queries of low rank.
void gqa_projections(OpList& ops, const ModelSpec& model, const AttentionSpec& a, const AttentionShard& shard,
                     const Sharding& sharding, DType kv_dtype) {
  const std::int64_t b = shard.rows;
  const std::int64_t input = a.input_width > 0 ? a.input_width : model.hidden;
  const std::int64_t q = shard.projected_heads * a.qk_head_dim;
  const std::int64_t cached = a.borrows_kv ? 0 : shard.kv_heads * a.kv_values_per_token();
  const std::int64_t kv = a.values_from_keys ? shard.kv_heads * a.qk_head_dim : cached;
  const std::int64_t gates = shard.owned_heads * a.gate_width;
  if (a.q_lora_rank > 0) {
    ops.gemm("q_a and kv projection", Phase::attn_proj,
             {.m = b, .n = a.q_lora_rank + kv + gates, .k = input});
    ops.elementwise("q_a norm", Phase::attn_proj, norm_bytes(b, a.q_lora_rank));
    ops.gemm("q_b projection", Phase::attn_proj, {.m = b, .n = q, .k = a.q_lora_rank});
  } else {
    ops.gemm("qkv projection", Phase::attn_proj, {.m = b, .n = q + kv + gates, .k = input});
  }
  if (a.qkv_bias) ops.elementwise("qkv bias", Phase::attn_proj, norm_bytes(b, q + kv), fused_on_gpu);
  const std::int64_t normed = (shard.projected_heads + shard.kv_heads) * a.qk_head_dim;
  if (a.qk_norm == QkNorm::whole && sharding.tpa > 1) {
    // On a GPU the norm's kernel sums, stores the sums to its peers and waits for theirs.
    ops.elementwise("q and k square sums", Phase::attn_proj, real(b * normed) * bf16_bytes, fused_on_gpu);
    ops.collective("square sums all-gather", Phase::attn_proj,
                   {.op = Collective::all_gather,
                    .group = sharding.stage_ranks(),
                    .payload_bytes = real(2 * b * sharding.stage_ranks()) * fp32_bytes,
                    .grouped_on_gpu = true});
  }
  if (a.qk_norm != QkNorm::none) {
    ops.elementwise(a.qk_norm == QkNorm::layer_heads ? "q and k layer norm" : "q and k norm",
                    Phase::attn_proj, norm_bytes(b, normed));
  }
  if (model.rope.query_growth > 0.0)
    ops.elementwise("query growth", Phase::attn_proj, norm_bytes(b, q), fused_on_gpu);
  // What is not rotated of a query only moves.
  const std::int64_t rotated = shard.projected_heads * a.qk_head_dim + shard.kv_heads * a.rope_dim();
  ops.elementwise("rope", Phase::attn_proj, norm_bytes(b, rotated), fused_on_gpu);
  if (cached > 0) {
    ops.elementwise("kv append", Phase::attn_proj,
                    real(b * cached) * (bf16_bytes + bytes_per_value(kv_dtype)), fused_on_gpu);
  }
}

void mla_projections(OpList& ops, const ModelSpec& model, const AttentionSpec& a, const AttentionShard& shard,
                     DType kv_dtype) {
  const std::int64_t b = shard.rows;
  const std::int64_t q = shard.projected_heads * a.qk_head_dim;
  const std::int64_t row = a.kv_lora_rank + a.qk_rope_head_dim;
  const bool low_rank_q = a.q_lora_rank > 0;
  if (low_rank_q) {
    ops.gemm("q_a projection", Phase::attn_proj, {.m = b, .n = a.q_lora_rank, .k = model.hidden});
    ops.elementwise("q_a norm", Phase::attn_proj, norm_bytes(b, a.q_lora_rank));
  }
  ops.gemm("q_b projection", Phase::attn_proj,
           {.m = b, .n = q, .k = low_rank_q ? a.q_lora_rank : model.hidden});
  if (model.rope.query_growth > 0.0)
    ops.elementwise("query growth", Phase::attn_proj, norm_bytes(b, q), fused_on_gpu);
  ops.gemm("kv_a projection", Phase::attn_proj,
           {.m = b, .n = row, .k = model.hidden, .fused_on_gpu = fused_on_gpu});
  if (a.gate_width > 0) {
    ops.gemm("gate projection", Phase::attn_proj,
             {.m = b, .n = shard.owned_heads * a.gate_width, .k = model.hidden});
  }
  ops.elementwise("kv_a norm", Phase::attn_proj, norm_bytes(b, a.kv_lora_rank));
  ops.elementwise("rope", Phase::attn_proj, norm_bytes(b, (shard.projected_heads + 1) * a.qk_rope_head_dim),
                  fused_on_gpu);
  ops.elementwise("kv append", Phase::attn_proj, real(b * row) * (bf16_bytes + bytes_per_value(kv_dtype)),
                  fused_on_gpu);
  ops.gemm("W_UK", Phase::attn_proj,
           {.m = b, .n = a.kv_lora_rank, .k = a.qk_nope_head_dim, .matrices = shard.projected_heads});
}

/// What makes an entry for several tokens: contents and weights of a softmax over them, where an indexer
/// chooses among the entries twice of each, as they overlap.
void compressor(OpList& ops, const ModelSpec& model, const AttentionSpec& a, std::int64_t b) {
  const bool indexed = a.indexer.heads > 0;
  const std::int64_t overlapping = indexed ? 2 : 1;
  const std::int64_t values = a.qk_head_dim + (indexed ? a.indexer.head_dim : 0);
  ops.gemm("compressor projection", Phase::attn_proj,
           {.m = b, .n = 2 * overlapping * values, .k = model.hidden});
}

/// The scorer of DeepSeek-V3.2, all of its heads on every rank. KVP ranks each offer their own best, and all of
/// them keep the best of those.
void indexer(OpList& ops, const ModelSpec& model, const AttentionSpec& a, const AttentionShard& shard,
             const Sharding& sharding, const DecodeShape& shape) {
  const IndexerSpec& i = a.indexer;
  const DType kv_dtype = shape.kv_dtype;
  const std::int64_t b = shard.rows;
  ops.gemm("index query projection", Phase::attn_proj,
           {.m = b, .n = i.heads * i.head_dim, .k = a.q_lora_rank > 0 ? a.q_lora_rank : model.hidden});
  const std::int64_t key = a.compression > 0 ? 0 : i.head_dim;  // else it is the compressor's
  ops.gemm("index weights", Phase::attn_proj, {.m = b, .n = i.heads, .k = model.hidden},
           weight_format(shape, WeightPart::router), fp32_bytes);
  if (key > 0) {
    ops.gemm("index key projection", Phase::attn_proj,
             {.m = b, .n = key, .k = model.hidden, .fused_on_gpu = fused_on_gpu});
    ops.elementwise("index key norm", Phase::attn_proj, norm_bytes(b, key), fused_on_gpu);
    ops.elementwise("index rope", Phase::attn_proj, norm_bytes(b, (i.heads + 1) * a.qk_rope_head_dim),
                    fused_on_gpu);
    ops.elementwise("index key append", Phase::attn_proj,
                    real(b * key) * (bf16_bytes + bytes_per_value(kv_dtype)), fused_on_gpu);
  }
  const std::int64_t queries = shard.batch * shape.query_tokens();
  const double keys = real(shard.batch * shard.keys), scores = real(queries * shard.keys);
  ops.add({.name = "indexer",
           .phase = Phase::attn,
           .shape = IndexerShape{.batch = shard.batch,
                                 .heads = i.heads * shape.query_tokens(),
                                 .head_dim = i.head_dim,
                                 .top_k = i.top_k,
                                 .keys = shard.keys,
                                 .tokens_per_key = std::max<std::int64_t>(1, a.compression)},
           .dtype = kv_dtype,
           .bytes = {.kv = keys * real(i.head_dim) * bytes_per_value(kv_dtype),
                     .activations = scores * 2 * fp32_bytes},  // written, and read to choose from
           .flops = 2 * scores * real(i.heads * i.head_dim)});
  constexpr double score_and_position = 8;
  const std::int64_t kept = std::min(i.top_k, shard.keys * sharding.kvp);
  const double offers = real(queries * kept) * score_and_position * sharding.kvp;
  ops.collective("index top-k all-gather", Phase::attn,
                 {.op = Collective::all_gather, .group = sharding.kvp, .payload_bytes = offers});
  ops.elementwise("index choice", Phase::attn, offers, fused_on_gpu);
}

/// Where the output's heads are projected in groups first, those of a rank are whole groups or a part of one.
void output_projection(OpList& ops, const ModelSpec& model, const AttentionSpec& a,
                       const AttentionShard& shard, const DecodeShape& shape) {
  std::int64_t width = shard.owned_heads * a.v_head_dim;
  const WeightFormat weights = weight_format(shape, WeightPart::output_projection);
  if (a.output_groups > 0) {
    const std::int64_t group = a.q_heads / a.output_groups;
    const std::int64_t groups = ceil_div(shard.owned_heads, group);
    ops.gemm("output group projection", Phase::attn_proj,
             {.m = shard.rows,
              .n = a.output_rank,
              .k = std::min(shard.owned_heads, group) * a.v_head_dim,
              .matrices = groups},
             weights);
    width = groups * a.output_rank;
  }
  ops.gemm("output projection", Phase::attn_proj, {.m = shard.rows, .n = model.hidden, .k = width}, weights);
}

/// Whether partial outputs are made values of their heads before ranks exchange them.
bool projects_before_merge(const AttentionSpec& a, const Sharding& sharding, const DecodeShape& shape) {
  return a.kind == AttentionKind::mla && sharding.kvp > 1 &&
         shape.exchange.projection == CacheExchange::Projection::before_merge;
}

/// Flash-decode, and under KVP the exchange and merge of its partial results.
void attend(OpList& ops, const AttentionSpec& a, const AttentionShard& shard, const Sharding& sharding,
            const DecodeShape& shape) {
  // Tokens of a request that are attended from share its cache, but where each picks tokens of its own.
  const bool picks = a.indexer.heads > 0;
  const std::int64_t sharers = picks ? 1 : shape.query_tokens(), pickers = picks ? shape.query_tokens() : 1;
  // Widths of a query, of its partial output, of that when it is sent, and of what is cached per token.
  const std::int64_t key_dim = shard.part.cache.head_dim, out_dim = shard.part.cache.v_dim;
  const bool projects = projects_before_merge(a, sharding, shape);
  const std::int64_t sent_dim = projects ? a.v_head_dim : out_dim;
  const std::int64_t cached = shard.kv_heads * a.kv_values_per_token();

  if (shape.exchange.queries == CacheExchange::Queries::gathered) {
    ops.collective("query all-gather", Phase::a2a,
                   {.op = Collective::all_gather,
                    .group = sharding.kvp,
                    .payload_bytes = real(shard.rows * shard.q_heads * key_dim) * bf16_bytes});
  }
  const Pieces pieces = shard.part.pieces(shard.batch);
  const std::int64_t requests = pieces.largest();
  const std::int64_t queries = requests * shape.query_tokens();
  const double tokens = real(requests * pickers * shard.attended);
  ops.repeat(real(pieces.count));
  if (a.indexer.heads > 0 && a.compression == 0) {  // GPU: its attention reads the rows where they are
    ops.add({.name = "gather chosen",
             .phase = Phase::attn,
             .shape = ElementwiseShape{.none_on_gpu = true},
             .bytes = {.activations = 2 * tokens * real(cached) * bytes_per_value(shape.kv_dtype)}});
  }
  ops.add({.name = "attention",
           .phase = Phase::attn,
           .shape = AttentionShape{.kind = a.keys_are_values ? AttentionKind::mla : a.kind,
                                   .batch = requests * pickers,
                                   .q_heads = shard.q_heads * sharers,
                                   .kv_heads = shard.kv_heads,
                                   .head_dim = key_dim,
                                   .v_dim = out_dim,
                                   .tokens = shard.tokens,
                                   .query_tokens = shape.query_tokens(),
                                   .picked = picks ? shard.attended : 0},
           .dtype = shape.kv_dtype,
           .bytes = {.kv = tokens * real(cached) * bytes_per_value(shape.kv_dtype),
                     .activations = real(queries * shard.q_heads * (key_dim + out_dim)) * bf16_bytes},
           .flops = 2 * tokens * real(sharers * shard.q_heads * (key_dim + out_dim))});
  if (a.sinks)
    ops.elementwise("attention sinks", Phase::attn, norm_bytes(queries, shard.q_heads * out_dim),
                    fused_on_gpu);
  if (projects) {
    ops.gemm("W_UV", Phase::attn_proj,
             {.m = queries, .n = a.v_head_dim, .k = a.kv_lora_rank, .matrices = shard.q_heads});
  }
  if (sharding.kvp > 1 && shape.exchange.merge == CacheExchange::Merge::ag_rs) {
    // Each rank scales its partial outputs of all heads by everybody's log-sum-exps; sums go to their owners.
    const double outputs = real(queries * shard.q_heads * sent_dim) * bf16_bytes;
    ops.collective("log-sum-exp all-gather", Phase::a2a,
                   {.op = Collective::all_gather,
                    .group = sharding.kvp,
                    .payload_bytes = real(queries * shard.q_heads * sharding.kvp) * fp32_bytes});
    ops.elementwise("scale partials", Phase::merge, 2 * outputs);
    ops.collective("partials reduce-scatter", Phase::a2a,
                   {.op = Collective::reduce_scatter, .group = sharding.kvp, .payload_bytes = outputs});
  } else if (sharding.kvp > 1) {
    PartialShape partials = shard.part.partials(queries);
    partials.v_dim = sent_dim;
    const double packed = static_cast<double>(partials.chunk_bytes()) * sharding.kvp;
    ops.elementwise("pack", Phase::merge, 2 * packed, fused_on_gpu);  // GPU: stored straight to the peers
    ops.collective("partials all-to-all", Phase::a2a,
                   {.op = Collective::all_to_all, .group = sharding.kvp, .payload_bytes = packed});
    ops.elementwise("merge", Phase::merge, packed + static_cast<double>(partials.output_bytes()));
  }
  ops.repeat(1);
}

}  // namespace

std::vector<Op> attention_ops(const DecodeStep& step, const LayerKind& kind) {
  const auto& [model, sharding, shape] = step;
  if (kind.mixer == Mixer::none) return {};
  if (kind.mixer == Mixer::state) return state_ops(step);
  const AttentionSpec& a = model.attention_of(kind);
  const AttentionShard shard = attention_shard(a, sharding, shape);
  const bool follows_all_reduce = all_reduces(sharding);  // whose kernel does it on a GPU
  OpList ops(weight_format(shape, WeightPart::attention));
  ops.elementwise("attention norm", Phase::attn_proj,
                  add_norm_bytes(kept_rows(sharding, shape), model.hidden), follows_all_reduce);
  if (a.kind == AttentionKind::mla) {
    mla_projections(ops, model, a, shard, shape.kv_dtype);
  } else {
    gqa_projections(ops, model, a, shard, sharding, shape.kv_dtype);
  }
  if (a.compression > 0) compressor(ops, model, a, shard.rows);
  if (a.indexer.heads > 0 && !a.indexer.reused) indexer(ops, model, a, shard, sharding, shape);
  attend(ops, a, shard, sharding, shape);
  if (a.kind == AttentionKind::mla && !projects_before_merge(a, sharding, shape)) {
    ops.gemm("W_UV", Phase::attn_proj,
             {.m = shard.rows, .n = a.v_head_dim, .k = a.kv_lora_rank, .matrices = shard.owned_heads});
  }
  output_projection(ops, model, a, shard, shape);
  if (a.output_bias)
    ops.elementwise("output bias", Phase::attn_proj, norm_bytes(shard.rows, model.hidden), fused_on_gpu);
  if (model.post_norms) {
    ops.elementwise("attention output norm", Phase::attn_allreduce,
                    norm_bytes(kept_rows(sharding, shape), model.hidden), follows_all_reduce);
  }
  return ops.take();
}

}  // namespace helix
