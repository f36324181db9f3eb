#include "roofline/memory.hpp"

#include <algorithm>
#include <cmath>

#include "roofline/decode_ops.hpp"

namespace helix {
namespace {

double real(std::int64_t x) {
  return static_cast<double>(x);
}
std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

/// Weight bytes that the op's rank holds: of routed experts all local ones, not only those touched.
double held_weights(const Op& op) {
  if (const auto* moe = std::get_if<MoeShape>(&op.shape)) {
    return op.bytes.weights / moe->active_experts * real(moe->local_experts);
  }
  return op.bytes.weights;
}

}  // namespace

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

MemoryModel memory_model(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  constexpr double bf16_bytes = 2, fp32_bytes = 4;
  DecodeShape one = shape;  // one attended request
  one.batch = 1;
  one.hop_b = 1;

  const double stage_layers = real(ceil_div(model.layers, sharding.pp)) / real(model.layers);
  const std::int64_t vocab = ceil_div(model.vocab, sharding.stage_ranks());
  MemoryModel memory{.dp = sharding.dp, .pp = sharding.pp};
  memory.weights = real(vocab * model.hidden) * bf16_bytes;  // the embedding table
  for (const Op& op : head_ops(model, sharding, one)) memory.weights += held_weights(op);

  double widest =
      real(vocab) * fp32_bytes;  // per request, inputs and outputs of the widest op; first the logits
  const auto add_layer = [&](const std::vector<Op>& ops, double layers) {
    for (const Op& op : ops) {
      memory.weights += held_weights(op) * layers;
      const auto* collective = std::get_if<CollectiveShape>(&op.shape);
      if (collective && collective->op == Collective::all_to_all) {
        memory.per_attended_request = std::max(memory.per_attended_request, 2 * collective->payload_bytes);
      }
      widest = std::max(widest, op.bytes.activations);
    }
  };
  double kv = 0;
  for (const LayerGroup& group : model.layer_groups()) {
    const double layers = real(group.count) * stage_layers;
    const std::vector<Op> attention = attention_ops(model, group.kind.window, sharding, one);
    add_layer(attention, layers);
    add_layer(ffn_ops(model, group.kind.moe, sharding, one), layers);
    for (const Op& op : attention) {
      const auto* a = std::get_if<AttentionShape>(&op.shape);
      if (!a) continue;
      const std::int64_t pages = ceil_div(a->tokens, shape.tokens_per_block);
      kv += layers * op.bytes.kv * real(pages * shape.tokens_per_block) /
            real(std::max<std::int64_t>(a->tokens, 1));
    }
  }
  memory.per_attended_request += kv;
  memory.per_stage_request = real(model.hidden) * (fp32_bytes + 2 * bf16_bytes) + widest;
  return memory;
}

}  // namespace helix
