#include "roofline/step/state_ops.hpp"

#include "roofline/step/op_list.hpp"

namespace helix {

StateShard state_shard(const StateSpec& s, int ranks) {
  StateShard shard{.heads = ceil_div(s.heads, ranks), .key_heads = ceil_div(s.key_heads, ranks)};
  const std::int64_t keys = shard.key_heads * s.key_dim, values = shard.heads * s.value_dim;
  shard.channels = 2 * keys + values;
  switch (s.kind) {
    case StateKind::gated_delta_net:  // q, k, v and the output's gate; beta and decay of each head
      shard.inputs = shard.channels + values + 2 * shard.heads;
      break;
    case StateKind::kimi_delta_attention:  // q, k, v, perhaps the gate; beta of each head
      shard.inputs = shard.channels + (s.full_rank_gate ? values : 0) + shard.heads;
      break;
    case StateKind::mamba2:  // gate, x, B, C; the time step of each head
      shard.inputs = values + shard.channels + shard.heads;
      break;
  }
  return shard;
}

double state_bytes(const StateSpec& s, int ranks) {
  const StateShard shard = state_shard(s, ranks);
  return real(shard.heads * s.key_dim * s.value_dim) * s.state_value_bytes +
         real(shard.channels * (s.conv_kernel - 1)) * bf16_bytes;
}

namespace {

/// Decay and gate of Kimi delta attention come out of two products each, the first of which all ranks do.
void low_rank_projections(OpList& ops, const StateSpec& s, const StateShard& shard, std::int64_t b,
                          std::int64_t hidden) {
  const std::int64_t products = s.full_rank_gate ? 1 : 2;
  ops.gemm("state low-rank projection", Phase::attn_proj, {.m = b, .n = products * s.value_dim, .k = hidden});
  ops.gemm("state decay and gate", Phase::attn_proj,
           {.m = b, .n = shard.heads * s.value_dim, .k = s.value_dim, .matrices = products});
}

}  // namespace

std::vector<Op> state_ops(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  const StateSpec& s = *model.state;
  const int ranks = sharding.kvp * sharding.tpa;
  const StateShard shard = state_shard(s, ranks);
  const std::int64_t b = computed_rows(sharding, shape);
  const std::int64_t values = shard.heads * s.value_dim;
  OpList ops(weight_format(shape, WeightPart::attention));
  ops.elementwise("attention norm", Phase::attn_proj, add_norm_bytes(b, model.hidden), all_reduces(sharding));
  ops.gemm("state projections", Phase::attn_proj, {.m = b, .n = shard.inputs, .k = model.hidden});
  if (s.kind == StateKind::kimi_delta_attention) low_rank_projections(ops, s, shard, b, model.hidden);
  const double requests = real(attended_batch(sharding, shape));
  const std::int64_t conv_weights = shard.channels * s.conv_kernel;
  // S <- decay S + k (v - k^T S) beta, o = q^T S: about seven operations a value.
  ops.add({.name = "state update",
           .phase = Phase::attn,
           .shape = StateShape{.kind = s.kind,
                               .batch = attended_batch(sharding, shape),
                               .heads = shard.heads,
                               .key_dim = s.key_dim,
                               .value_dim = s.value_dim,
                               .conv_weights = conv_weights},
           .bytes = {.weights = real(conv_weights) * bf16_bytes,
                     .state = 2 * requests * state_bytes(s, ranks),
                     .activations = real(b * (shard.inputs + values)) * bf16_bytes},
           .flops = 7 * requests * real(shard.heads * s.key_dim * s.value_dim)});
  ops.elementwise("state output norm", Phase::attn_proj, real(b * values) * 3 * bf16_bytes);
  ops.gemm("output projection", Phase::attn_proj, {.m = b, .n = model.hidden, .k = values},
           weight_format(shape, WeightPart::output_projection));
  return ops.take();
}

}  // namespace helix
