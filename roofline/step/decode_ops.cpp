#include "roofline/step/decode_ops.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "roofline/step/op_list.hpp"

namespace helix {

std::int64_t stage_batch(const Sharding& sharding, const DecodeShape& shape) {
  return ceil_div(shape.batch, sharding.pp);
}

std::int64_t attended_batch(const Sharding& sharding, const DecodeShape& shape) {
  return ceil_div(stage_batch(sharding, shape), sharding.dp);
}

std::int64_t computed_rows(const Sharding& sharding, const DecodeShape& shape) {
  return std::max(attended_batch(sharding, shape) * shape.query_tokens(), shape.padded_rows);
}

std::int64_t stage_rows(const Sharding& sharding, const DecodeShape& shape) {
  return shape.padded_rows > 0 ? computed_rows(sharding, shape) * sharding.dp
                               : stage_batch(sharding, shape) * shape.query_tokens();
}

std::int64_t kept_rows(const Sharding& sharding, const DecodeShape& shape) {
  return attends_whole_requests(sharding) ? computed_rows(sharding, shape) : stage_rows(sharding, shape);
}

std::vector<Op> head_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  const std::int64_t q = shape.query_tokens();
  const bool whole = shape.whole_head;
  const std::int64_t b = (whole ? attended_batch(sharding, shape) : stage_batch(sharding, shape)) * q;
  const std::int64_t h = model.hidden;
  const int n = whole ? 1 : sharding.stage_ranks();
  const std::int64_t vocab = ceil_div(model.vocab, n);
  constexpr double top_logit_bytes = 8;
  OpList ops;
  ops.repeat(head_repeats(model, sharding));
  ops.elementwise("embedding", Phase::head, real(b * h) * 2 * bf16_bytes);
  ops.collective("embedding all-reduce", Phase::head,
                 {.op = Collective::all_reduce, .group = n, .payload_bytes = real(b * h) * bf16_bytes});
  ops.elementwise(
      "final norm", Phase::head,
      add_norm_bytes(attends_whole_requests(sharding) ? attended_batch(sharding, shape) * q : b, h));
  if (attends_whole_requests(sharding) && !whole) {
    ops.collective("final all-gather", Phase::head,
                   {.op = Collective::all_gather, .group = n, .payload_bytes = real(b * h) * bf16_bytes});
  }
  ops.gemm("LM head", Phase::head, {.m = b, .n = vocab, .k = h}, weight_format(shape, WeightPart::lm_head),
           fp32_bytes);
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

std::vector<Op> layer_ops(const ModelSpec& model, const LayerKind& kind, const Sharding& sharding,
                          const DecodeShape& shape) {
  std::vector<Op> ops, behind;  // norms of the sums
  const auto append = [&](const Op& op) { (op.name.ends_with("output norm") ? behind : ops).push_back(op); };
  const auto append_behind = [&] {
    ops.insert(ops.end(), behind.begin(), behind.end());
    behind.clear();
  };
  std::ranges::for_each(attention_ops(model, kind, sharding, shape), append);
  const std::vector<Op> exchange = exchange_ops(model, kind, sharding, shape);
  const auto exchange_those = [&](auto which) {
    std::ranges::copy_if(exchange, std::back_inserter(ops), which);
  };
  exchange_those([](const Op& op) { return op.phase == Phase::attn_allreduce; });
  append_behind();
  // Tokens arrive before the first op that works on those of all ranks, and their sums leave behind the last.
  const auto arrives = [](const Op& op) {
    const auto& collective = std::get<CollectiveShape>(op.shape);
    return op.phase == Phase::ffn_comm &&
           (collective.op == Collective::all_gather ||
            (collective.op == Collective::all_to_all && !collective.routed.combine));
  };
  bool arrived = false;
  for (const Op& op : ffn_ops(model, kind, sharding, shape)) {
    const bool on_all =
        kind.moe() ? std::holds_alternative<MoeShape>(op.shape) : std::holds_alternative<GemmShape>(op.shape);
    if (on_all && !std::exchange(arrived, true)) exchange_those(arrives);
    append(op);
  }
  exchange_those([&](const Op& op) { return op.phase == Phase::ffn_comm && !arrives(op); });
  append_behind();
  return ops;
}

std::vector<Op> draft_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  const DecodeShape run = drafting(shape);
  OpList ops(weight_format(shape, WeightPart::attention));
  ops.elementwise("draft norms", Phase::head, 2 * norm_bytes(stage_rows(sharding, run), model.hidden));
  ops.gemm("draft input projection", Phase::head,
           {.m = stage_rows(sharding, run), .n = model.hidden, .k = 2 * model.hidden});
  std::vector<Op> all = ops.take();
  std::ranges::copy(head_ops(model, sharding, run), std::back_inserter(all));
  for (Op& op : all) op.count *= shape.draft_tokens;
  return all;
}

std::vector<Op> decode_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  std::vector<Op> all = head_ops(model, sharding, shape);
  const auto add_layers = [&](const LayerKind& kind, const DecodeShape& of, double times) {
    for (Op op : layer_ops(model, kind, sharding, of)) {
      op.count *= times * layer_repeats(model, sharding);
      all.push_back(op);
    }
  };
  for (const LayerGroup& group : model.layer_groups()) add_layers(group.kind, shape, real(group.count));
  if (drafts(model, shape)) {
    std::ranges::copy(draft_ops(model, sharding, shape), std::back_inserter(all));
    add_layers(draft_layer(model), drafting(shape), shape.draft_tokens);
  }
  return all;
}

}  // namespace helix
