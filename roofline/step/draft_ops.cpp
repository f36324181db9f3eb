#include "roofline/step/draft_ops.hpp"

#include <fmt/format.h>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/step/head_parts.hpp"
#include "roofline/step/weight_request.hpp"

namespace helix {

std::string_view name(DraftKv draft_kv) {
  return draft_kv == DraftKv::local ? "local" : "sharded";
}

DraftKv parse_draft_kv(std::string_view text) {
  for (const DraftKv draft_kv : {DraftKv::sharded, DraftKv::local}) {
    if (name(draft_kv) == text) return draft_kv;
  }
  throw UsageError(fmt::format("'{}': valid are sharded, local", excerpt(text)));
}

namespace {

/// Engines quantise a head as its checkpoint says, whatever the model's weights are. An LM head that it shares is the
/// model's.
void use_own_weights(const ModelSpec& head, DecodeShape& shape) {
  const WeightFormat lm_head = weight_format(shape, WeightPart::lm_head);
  WeightRequest().apply(head, shape);
  if (!head.tied_embeddings) return;
  WeightPrecision parts = shape.weights.value_or(WeightPrecision::uniform(shape.weight_dtype));
  parts[WeightPart::lm_head] = lm_head;
  shape.weights = parts;
}

/// Layers of the model whose residual streams a head sees side by side.
constexpr std::int64_t fused_layers = 3;

/// The norm of the residual stream is the layer's own.
std::vector<Op> head_input_ops(const DecodeStep& step) {
  const auto& [model, sharding, run] = step;
  const ModelSpec& head = *model.draft_head;
  const std::int64_t rows = own_rows(sharding, run), fused = fused_layers * model.hidden;
  OpList ops(weight_format(run, WeightPart::attention));
  embed(ops, {head, sharding, run});
  if (run.draft_tokens > 0) {
    // GPU: the layers write where the product reads.
    ops.elementwise("draft input", Phase::head, norm_bytes(rows, fused), fused_on_gpu);
    ops.gemm("draft fusion", Phase::head, {.m = rows, .n = head.hidden, .k = fused});
  }
  ops.elementwise("draft norms", Phase::head, norm_bytes(rows, head.hidden));
  return ops.take();
}

}  // namespace

DraftLayout draft_layout(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  DraftLayout layout{sharding, shape};
  if (model.draft_head) use_own_weights(*model.draft_head, layout.shape);
  if (shape.draft_kv == DraftKv::sharded) return layout;
  layout.sharding.tpa *= sharding.kvp;
  layout.sharding.kvp = 1;
  layout.shape.context = history_tokens(shape.context, shape.tokens_per_block, sharding.kvp, 0).size();
  return layout;
}

std::vector<DraftRuns> draft_runs(const DecodeStep& step) {
  const auto& [model, sharding, shape] = step;
  const auto [layout, first] = draft_layout(step);
  std::vector<DraftRuns> runs{{layout, first, real(sharding.pp)}};
  if (shape.draft_tokens > 1)
    runs.push_back({layout, drafting(first), real((shape.draft_tokens - std::int64_t{1}) * sharding.pp)});
  return runs;
}

std::vector<Op> draft_input_ops(const DecodeStep& step) {
  const auto& [model, sharding, run] = step;
  if (model.draft_head) return head_input_ops(step);
  const std::int64_t rows = own_rows(sharding, run);
  OpList ops(weight_format(run, WeightPart::attention));
  embed(ops, step);
  // GPU: the norms write where the product reads.
  ops.elementwise("draft input", Phase::head, 2 * norm_bytes(rows, model.hidden), fused_on_gpu);
  ops.elementwise("draft norms", Phase::head, 2 * norm_bytes(rows, model.hidden));
  ops.gemm("draft input projection", Phase::head, {.m = rows, .n = model.hidden, .k = 2 * model.hidden});
  return ops.take();
}

std::vector<Op> draft_head_ops(const DecodeStep& step) {
  const auto& [model, sharding, run] = step;
  const std::int64_t hidden = drafter(model).hidden;
  OpList ops;
  ops.elementwise("draft output norm", Phase::head, add_norm_bytes(own_rows(sharding, run), hidden));
  if (run.draft_tokens > 0) {
    ops.elementwise("accepted rows", Phase::head, norm_bytes(own_rows(sharding, drafting(run)), hidden),
                    fused_on_gpu);
  }
  choose(ops, {drafter(model), sharding, drafting(run)});
  return ops.take();
}

double head_table_bytes(const DecodeStep& step) {
  const auto& [model, sharding, run] = step;
  if (!model.draft_head) return 0;
  const ModelSpec& head = *model.draft_head;
  const int ranks = head_ranks(sharding, run);
  const auto table = [&](std::int64_t tokens, WeightPart part) {
    return real(ceil_div(tokens, ranks) * head.hidden) * weight_format(run, part).bytes;
  };
  const bool shares_embedding = head.hidden == model.hidden;
  return (shares_embedding ? 0 : table(model.vocab, WeightPart::embedding)) +
         (head.tied_embeddings ? 0 : table(head.vocab, WeightPart::lm_head));
}

}  // namespace helix
