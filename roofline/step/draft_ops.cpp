#include "roofline/step/draft_ops.hpp"

#include <fmt/format.h>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/step/head_parts.hpp"

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

DraftLayout draft_layout(const Sharding& sharding, const DecodeShape& shape) {
  if (shape.draft_kv == DraftKv::sharded) return {sharding, shape};
  DraftLayout local{sharding, shape};
  local.sharding.tpa *= sharding.kvp;
  local.sharding.kvp = 1;
  local.shape.context = history_tokens(shape.context, shape.tokens_per_block, sharding.kvp, 0).size();
  return local;
}

std::vector<DraftRuns> draft_runs(const Sharding& sharding, const DecodeShape& shape) {
  const auto [layout, first] = draft_layout(sharding, shape);
  std::vector<DraftRuns> runs{{layout, first, real(sharding.pp)}};
  if (shape.draft_tokens > 1)
    runs.push_back({layout, drafting(first), real((shape.draft_tokens - std::int64_t{1}) * sharding.pp)});
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

}  // namespace helix
