#include "roofline/decode_ops.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace helix {
namespace {

constexpr double bf16_bytes = 2, fp32_bytes = 4;
// RoPE and append are part of the attention op, top-k of the routed experts.
constexpr bool fused_on_gpu = true;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
double real(std::int64_t x) {
  return static_cast<double>(x);
}
double align16(double bytes) {
  return std::ceil(bytes / 16) * 16;
}

/// The ops of a layer in the order of their execution.
class OpList {
 public:
  explicit OpList(DType weight_dtype) : weight_dtype_(weight_dtype) {}

  /// Executions of each op added from here on.
  void repeat(double times) { repeat_ = times; }
  /// Where they run.
  void on(RunsOn system) { runs_on_ = system; }

  void add(Op op) {
    op.count = repeat_;
    op.runs_on = runs_on_;
    ops_.push_back(op);
  }

  void gemm(std::string_view op, Phase phase, GemmShape s, DType dtype, double out_bytes = bf16_bytes) {
    const double matrices = real(s.matrices);
    add({.name = op,
         .phase = phase,
         .shape = s,
         .dtype = dtype,
         .bytes = {.weights = matrices * real(s.n * s.k) * bytes_per_value(dtype),
                   .activations = matrices * real(s.m) * (real(s.k) * bf16_bytes + real(s.n) * out_bytes)},
         .flops = 2 * matrices * real(s.m) * real(s.n) * real(s.k)});
  }
  void gemm(std::string_view op, Phase phase, GemmShape s) { gemm(op, phase, s, weight_dtype_); }

  void elementwise(std::string_view op, Phase phase, double bytes, bool fused = false) {
    add({.name = op,
         .phase = phase,
         .shape = ElementwiseShape{.fused_on_gpu = fused},
         .bytes = {.activations = bytes}});
  }

  /// No op in a group of one. Sent bytes are those of a ring, the least that a rank must send.
  void collective(std::string_view op, Phase phase, CollectiveShape s) {
    if (s.group <= 1) return;
    const double others = (s.group - 1.0) / s.group;
    const double sent = s.op == Collective::send ? 1 : s.op == Collective::all_reduce ? 2 * others : others;
    add({.name = op, .phase = phase, .shape = s, .wire_bytes = sent * s.payload_bytes});
  }

  /// Fused gate and up, SwiGLU, down.
  void swiglu_ffn(std::array<std::string_view, 3> names, std::int64_t m, std::int64_t hidden,
                  std::int64_t width) {
    gemm(names[0], Phase::ffn, {.m = m, .n = 2 * width, .k = hidden});
    elementwise(names[1], Phase::ffn, real(m * width) * 3 * bf16_bytes);
    gemm(names[2], Phase::ffn, {.m = m, .n = hidden, .k = width});
  }

  std::vector<Op> take() { return std::move(ops_); }

 private:
  DType weight_dtype_;
  double repeat_ = 1;
  RunsOn runs_on_ = RunsOn::every_system;
  std::vector<Op> ops_;
};

/// residual += delta, normalised: delta and result bf16, residual fp32 read and written.
double add_norm_bytes(std::int64_t rows, std::int64_t hidden) {
  return real(rows * hidden) * (2 * bf16_bytes + 2 * fp32_bytes);
}

/// What the rank with index 0 on every axis owns, the busiest by construction (low parts hold the extra).
struct AttentionShard {
  std::int64_t q_heads, owned_heads, kv_heads, tokens, batch;
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
          .batch = attended_batch(sharding, shape)};
}

void gqa_projections(OpList& ops, const ModelSpec& model, const AttentionShard& shard, DType kv_dtype) {
  const AttentionSpec& a = model.attention;
  const std::int64_t b = shard.batch;
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
  const std::int64_t b = shard.batch;
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

double expected_active_experts(std::int64_t local, std::int64_t experts, std::int64_t top_k,
                               std::int64_t tokens) {
  const double missed = std::pow(1.0 - real(top_k) / real(experts), real(tokens));
  return real(local) * (1.0 - missed);
}

double expected_maximum(std::int64_t n) {
  if (n <= 1) return 0;
  constexpr double step = 0.05, end = 8;
  double sum = 0;
  for (double x = -end; x <= end; x += step) {
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const double below = std::erfc(-x / std::numbers::sqrt2) / 2;
    sum += x * real(n) * density * std::pow(below, real(n - 1)) * step;
  }
  return sum;
}

namespace {

/// Load of the rank that holds the `local` most popular experts.
RoutedLoad favourites_load(std::int64_t local, std::int64_t experts, std::int64_t top_k, std::int64_t tokens,
                           double skew) {
  double all = 0;
  for (std::int64_t i = 1; i <= experts; ++i) all += std::pow(real(i), -skew);
  RoutedLoad load;
  for (std::int64_t i = 1; i <= local; ++i) {
    const double chosen = std::min(1.0, real(top_k) * std::pow(real(i), -skew) / all);
    load.active_experts += 1 - std::pow(1 - chosen, real(tokens));
    load.pairs += real(tokens) * chosen;
  }
  return load;
}

}  // namespace

RoutedLoad routed_load(std::int64_t local, std::int64_t experts, std::int64_t top_k, std::int64_t tokens,
                       double skew) {
  if (skew > 0) {
    const RoutedLoad uniform = routed_load(local, experts, top_k, tokens, 0);
    const RoutedLoad favourites = favourites_load(local, experts, top_k, tokens, skew);
    return {std::max(uniform.active_experts, favourites.active_experts),
            std::max(uniform.pairs, favourites.pairs)};
  }
  const double mean = expected_active_experts(local, experts, top_k, tokens);
  const double pairs = real(tokens * top_k) * real(local) / real(experts);
  const std::int64_t ranks = ceil_div(experts, local);
  if (ranks == 1) return {mean, pairs};
  const double share = real(local) / real(experts), active = mean / real(local);
  const double variance =
      real(local) * active * (1 - active) * (1 - share) * real(experts) / real(experts - 1);
  const double n = real(ranks);
  const double busiest =
      std::clamp(mean + std::sqrt(variance * n / (n - 1)) * expected_maximum(ranks), 1.0, real(local));
  return {busiest, pairs * busiest / mean};
}

std::int64_t stage_batch(const Sharding& sharding, const DecodeShape& shape) {
  return ceil_div(shape.batch, sharding.pp);
}

std::int64_t attended_batch(const Sharding& sharding, const DecodeShape& shape) {
  return ceil_div(stage_batch(sharding, shape), sharding.dp);
}

namespace {
bool all_reduces(const Sharding& sharding) {
  return sharding.stage_ranks() > 1 && !attends_whole_requests(sharding);
}
}  // namespace

std::vector<Op> attention_ops(const ModelSpec& model, std::int64_t window, const Sharding& sharding,
                              const DecodeShape& shape) {
  const AttentionSpec& a = model.attention;
  const bool mla = a.kind == AttentionKind::mla;
  const AttentionShard shard = attention_shard(model, window, sharding, shape);
  const bool follows_all_reduce = all_reduces(sharding);  // whose kernel does it on a GPU
  OpList ops(shape.weight_dtype);
  ops.elementwise("attention norm", Phase::attn_proj, add_norm_bytes(shard.batch, model.hidden),
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
    // Every peer gets its heads' partial outputs and log-sum-exps in one chunk: PartialShape of
    // kernels/ops.hpp.
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
             {.m = shard.batch, .n = a.v_head_dim, .k = a.kv_lora_rank, .matrices = shard.owned_heads});
  }
  ops.gemm("output projection", Phase::attn_proj,
           {.m = shard.batch, .n = model.hidden, .k = shard.owned_heads * a.v_head_dim});
  return ops.take();
}

std::vector<Op> ffn_ops(const ModelSpec& model, bool moe, const Sharding& sharding,
                        const DecodeShape& shape) {
  // Data-parallel ranks keep norm, router and shared experts of a MoE layer to their own requests.
  const bool own_requests = moe && attends_whole_requests(sharding);
  const std::int64_t all = stage_batch(sharding, shape);
  const std::int64_t b = own_requests ? attended_batch(sharding, shape) : all;
  const std::int64_t h = model.hidden;
  // That share a dense FFN or the shared experts.
  const std::int64_t ranks = own_requests ? 1 : std::int64_t{sharding.tpf} * sharding.ep;
  const bool follows_all_reduce = all_reduces(sharding);
  OpList ops(shape.weight_dtype);
  ops.elementwise("ffn norm", Phase::ffn, add_norm_bytes(b, h), follows_all_reduce);
  if (moe) {
    const MoeSpec& m = model.moe;
    ops.gemm("router", Phase::ffn, {.m = b, .n = m.experts, .k = h}, DType::bf16, fp32_bytes);
    ops.elementwise("top-k", Phase::ffn, real(b * m.experts) * fp32_bytes, fused_on_gpu);
    if (m.shared_experts > 0) {
      ops.swiglu_ffn({"shared gate and up", "shared swiglu", "shared down"}, b, h,
                     ceil_div(m.shared_ffn, ranks));
    }
    const std::int64_t local = ceil_div(m.experts, sharding.ep);
    const std::int64_t f = ceil_div(m.expert_ffn, sharding.tpf);
    const auto [active, pairs] = routed_load(local, m.experts, m.top_k, all, shape.expert_skew);
    ops.add({.name = "routed experts",
             .phase = Phase::ffn,
             .shape = MoeShape{.tokens = all,
                               .hidden = h,
                               .ffn = f,
                               .local_experts = local,
                               .active_experts = active,
                               .pairs = pairs},
             .dtype = shape.weight_dtype,
             .bytes = {.weights = active * 3 * real(h * f) * bytes_per_value(shape.weight_dtype),
                       .activations = pairs * real(2 * h + 3 * f) * bf16_bytes},
             .flops = 2 * pairs * 3 * real(h * f)});
  } else {
    ops.swiglu_ffn({"gate and up", "swiglu", "down"}, b, h, ceil_div(model.ffn, ranks));
  }
  return ops.take();
}

std::vector<Op> exchange_ops(const ModelSpec& model, bool moe, const Sharding& sharding,
                             const DecodeShape& shape) {
  const int n = sharding.stage_ranks();
  const double hidden_bytes = real(model.hidden) * bf16_bytes;
  const double all_bytes = real(stage_batch(sharding, shape)) * hidden_bytes;
  OpList ops(shape.weight_dtype);
  if (!attends_whole_requests(sharding)) {
    const CollectiveShape sum{.op = Collective::all_reduce, .group = n, .payload_bytes = all_bytes};
    ops.collective("attention all-reduce", Phase::attn_allreduce, sum);
    ops.collective("ffn all-reduce", Phase::ffn_comm, sum);
    return ops.take();
  }
  const CollectiveShape gathered{.op = Collective::all_gather, .group = n, .payload_bytes = all_bytes};
  const CollectiveShape scattered{.op = Collective::reduce_scatter, .group = n, .payload_bytes = all_bytes};
  if (moe) {
    // A token goes once to each of the ranks that hold some of its experts.
    const double ranks_per_token = expected_active_experts(n, n, 1, model.moe.top_k);
    const CollectiveShape tokens{
        .op = Collective::all_to_all,
        .group = n,
        .payload_bytes = real(attended_batch(sharding, shape)) * ranks_per_token * hidden_bytes};
    ops.on(RunsOn::gpu);
    ops.collective("expert dispatch", Phase::ffn_comm, tokens);
    ops.collective("expert combine", Phase::ffn_comm, tokens);
    ops.on(RunsOn::host);
    CollectiveShape chosen = gathered;
    chosen.payload_bytes = real(stage_batch(sharding, shape) * model.moe.top_k) * fp32_bytes;
    ops.collective("expert id all-gather", Phase::ffn_comm, chosen);
    ops.collective("expert weight all-gather", Phase::ffn_comm, chosen);
  }
  ops.collective("token all-gather", Phase::ffn_comm, gathered);
  ops.collective("token reduce-scatter", Phase::ffn_comm, scattered);
  return ops.take();
}

std::vector<Op> head_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  const std::int64_t b = stage_batch(sharding, shape);
  const std::int64_t h = model.hidden;
  const int n = sharding.stage_ranks();
  const std::int64_t vocab = ceil_div(model.vocab, n);
  constexpr double top_logit_bytes = 8;
  OpList ops(shape.weight_dtype);
  ops.repeat(head_repeats(model, sharding));
  ops.elementwise("embedding", Phase::head, real(b * h) * 2 * bf16_bytes);
  ops.collective("embedding all-reduce", Phase::head,
                 {.op = Collective::all_reduce, .group = n, .payload_bytes = real(b * h) * bf16_bytes});
  ops.elementwise("final norm", Phase::head, add_norm_bytes(b, h));
  if (attends_whole_requests(sharding)) {
    ops.collective("final all-gather", Phase::head,
                   {.op = Collective::all_gather, .group = n, .payload_bytes = real(b * h) * bf16_bytes});
  }
  ops.gemm("LM head", Phase::head, {.m = b, .n = vocab, .k = h}, shape.weight_dtype, fp32_bytes);
  ops.elementwise("argmax", Phase::head, real(b * vocab) * fp32_bytes);
  ops.collective("argmax all-gather", Phase::head,
                 {.op = Collective::all_gather, .group = n, .payload_bytes = real(b) * top_logit_bytes * n});
  if (sharding.pp > 1) {
    // A token passes every stage boundary once, and goes back to the first stage: the residual stream, and
    // what the last block adds to it.
    ops.repeat(sharding.pp);
    ops.collective(
        "stage hand-over", Phase::head,
        {.op = Collective::send, .group = 2, .payload_bytes = real(b * h) * (fp32_bytes + bf16_bytes)});
  }
  return ops.take();
}

double head_repeats(const ModelSpec& model, const Sharding& sharding) {
  return model.layers % sharding.pp == 0 ? sharding.pp : 1;
}

double layer_repeats(const ModelSpec& model, const Sharding& sharding) {
  const std::int64_t longest_stage = ceil_div(model.layers, sharding.pp);
  return real(longest_stage * sharding.pp) / real(model.layers);
}

std::vector<Op> decode_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  std::vector<Op> all = head_ops(model, sharding, shape);
  for (const LayerGroup& group : model.layer_groups()) {
    const double repeats = real(group.count) * layer_repeats(model, sharding);
    for (auto ops : {attention_ops(model, group.kind.window, sharding, shape),
                     ffn_ops(model, group.kind.moe, sharding, shape),
                     exchange_ops(model, group.kind.moe, sharding, shape)}) {
      for (Op& op : ops) {
        op.count *= repeats;
        all.push_back(op);
      }
    }
  }
  return all;
}

}  // namespace helix
