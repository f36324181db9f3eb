#include "roofline/step/decode_ops.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

#include "roofline/step/draft_ops.hpp"
#include "roofline/step/head_parts.hpp"

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

std::vector<Op> head_ops(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  OpList ops;
  ops.repeat(head_repeats(model, sharding));
  embed(ops, step);
  ops.elementwise("final norm", Phase::head, add_norm_bytes(own_rows(sharding, shape), model.hidden));
  choose(ops, step);
  if (sharding.pp > 1) {
    // A token passes every stage boundary once, and goes back to the first stage: the residual stream, and
    // what the last block adds to it.
    const std::int64_t rows = headed_batch(sharding, shape) * shape.query_tokens();
    ops.repeat(sharding.pp);
    ops.collective("stage hand-over", Phase::head,
                   {.op = Collective::send,
                    .group = 2,
                    .payload_bytes = real(rows * model.hidden) * (fp32_bytes + bf16_bytes)});
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

std::vector<Op> layer_ops(const DecodeStep& step, const LayerKind& kind) {
  std::vector<Op> ops, behind;  // norms of the sums
  const auto append = [&](const Op& op) { (op.name.ends_with("output norm") ? behind : ops).push_back(op); };
  const auto append_behind = [&] {
    ops.insert(ops.end(), behind.begin(), behind.end());
    behind.clear();
  };
  std::ranges::for_each(attention_ops(step, kind), append);
  const std::vector<Op> exchange = exchange_ops(step, kind);
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
  for (const Op& op : ffn_ops(step, kind)) {
    const bool on_all =
        kind.moe() ? std::holds_alternative<MoeShape>(op.shape) : std::holds_alternative<GemmShape>(op.shape);
    if (on_all && !std::exchange(arrived, true)) exchange_those(arrives);
    append(op);
  }
  exchange_those([&](const Op& op) { return op.phase == Phase::ffn_comm && !arrives(op); });
  append_behind();
  return ops;
}

std::vector<Op> decode_ops(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  std::vector<Op> all = head_ops(step);
  for (const LayerGroup& group : model.layer_groups()) {
    for (Op op : layer_ops(step, group.kind)) {
      op.count *= real(group.count) * layer_repeats(model, sharding);
      all.push_back(op);
    }
  }
  if (!drafts(model, shape)) return all;
  for (const auto& [layout, run, times] : draft_runs(step)) {
    for (const std::vector<Op>& ops :
         {draft_input_ops({model, layout, run}), layer_ops({drafter(model), layout, run}, draft_layer(model)),
          draft_head_ops({model, layout, run})}) {
      for (Op op : ops) {
        op.count *= times;
        all.push_back(op);
      }
    }
  }
  return all;
}

}  // namespace helix
