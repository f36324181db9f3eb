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

namespace {

/// Requests whose tokens the rank embeds and chooses.
std::int64_t headed_batch(const Sharding& sharding, const DecodeShape& shape) {
  return shape.whole_head ? attended_batch(sharding, shape) : stage_batch(sharding, shape);
}
/// Ranks that share embedding and head.
int head_ranks(const Sharding& sharding, const DecodeShape& shape) {
  return shape.whole_head ? 1 : sharding.stage_ranks();
}

void embed(OpList& ops, const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  const double values = real(headed_batch(sharding, shape) * shape.query_tokens() * model.hidden);
  ops.elementwise("embedding", Phase::head, values * 2 * bf16_bytes);
  ops.collective("embedding all-reduce", Phase::head,
                 {.op = Collective::all_reduce,
                  .group = head_ranks(sharding, shape),
                  .payload_bytes = values * bf16_bytes});
}

/// Rows whose residual stream the rank has, as far as they are not padded.
std::int64_t own_rows(const Sharding& sharding, const DecodeShape& shape) {
  return (attends_whole_requests(sharding) ? attended_batch(sharding, shape)
                                           : headed_batch(sharding, shape)) *
         shape.query_tokens();
}

/// The LM head's choice from normed rows.
void choose(OpList& ops, const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  const std::int64_t b = headed_batch(sharding, shape) * shape.query_tokens();
  const std::int64_t h = model.hidden;
  const int n = head_ranks(sharding, shape);
  const std::int64_t vocab = ceil_div(model.vocab, n);
  constexpr double top_logit_bytes = 8;
  if (attends_whole_requests(sharding) && !shape.whole_head) {
    ops.collective("final all-gather", Phase::head,
                   {.op = Collective::all_gather, .group = n, .payload_bytes = real(b * h) * bf16_bytes});
  }
  ops.gemm("LM head", Phase::head, {.m = b, .n = vocab, .k = h}, weight_format(shape, WeightPart::lm_head),
           fp32_bytes);
  ops.elementwise("argmax", Phase::head, real(b * vocab) * fp32_bytes);
  ops.collective("argmax all-gather", Phase::head,
                 {.op = Collective::all_gather, .group = n, .payload_bytes = real(b) * top_logit_bytes * n});
}

}  // namespace

std::vector<Op> head_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  OpList ops;
  ops.repeat(head_repeats(model, sharding));
  embed(ops, model, sharding, shape);
  ops.elementwise("final norm", Phase::head, add_norm_bytes(own_rows(sharding, shape), model.hidden));
  choose(ops, model, sharding, shape);
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

std::vector<DraftRuns> draft_runs(const Sharding& sharding, const DecodeShape& shape) {
  std::vector<DraftRuns> runs{{shape, real(sharding.pp)}};
  if (shape.draft_tokens > 1)
    runs.push_back({drafting(shape), real((shape.draft_tokens - std::int64_t{1}) * sharding.pp)});
  return runs;
}

std::vector<Op> draft_input_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& run) {
  const std::int64_t rows = own_rows(sharding, run);
  OpList ops(weight_format(run, WeightPart::attention));
  embed(ops, model, sharding, run);
  // GPU: the norms write where the product reads.
  ops.elementwise("draft input", Phase::head, 2 * norm_bytes(rows, model.hidden), fused_on_gpu);
  ops.elementwise("draft norms", Phase::head, 2 * norm_bytes(rows, model.hidden));
  ops.gemm("draft input projection", Phase::head, {.m = rows, .n = model.hidden, .k = 2 * model.hidden});
  return ops.take();
}

std::vector<Op> draft_head_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& run) {
  OpList ops;
  ops.elementwise("draft output norm", Phase::head, add_norm_bytes(own_rows(sharding, run), model.hidden));
  if (run.draft_tokens > 0) {
    ops.elementwise("accepted rows", Phase::head, norm_bytes(own_rows(sharding, drafting(run)), model.hidden),
                    fused_on_gpu);
  }
  choose(ops, model, sharding, drafting(run));
  return ops.take();
}

std::vector<Op> decode_ops(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  std::vector<Op> all = head_ops(model, sharding, shape);
  for (const LayerGroup& group : model.layer_groups()) {
    for (Op op : layer_ops(model, group.kind, sharding, shape)) {
      op.count *= real(group.count) * layer_repeats(model, sharding);
      all.push_back(op);
    }
  }
  if (!drafts(model, shape)) return all;
  for (const auto& [run, times] : draft_runs(sharding, shape)) {
    for (const std::vector<Op>& ops :
         {draft_input_ops(model, sharding, run), layer_ops(model, draft_layer(model), sharding, run),
          draft_head_ops(model, sharding, run)}) {
      for (Op op : ops) {
        op.count *= times;
        all.push_back(op);
      }
    }
  }
  return all;
}

}  // namespace helix
