#include "kernels/engine/ffn_block.hpp"

#include <algorithm>

namespace helix {
namespace {

/// Arrays are as large on every rank as on the busiest.
FfnPart largest_part(const RankPlan& plan) {
  return ffn_part(plan.model(), plan.sharding(), {});
}

}  // namespace

FfnBlock::Arrays::Arrays(Carver& carver, const RankPlan& plan) {
  const ModelSpec& model = plan.model();
  const FfnPart part = largest_part(plan);
  const std::int64_t rows = plan.largest().rows().size();
  const std::int64_t columns = std::max(part.dense.size(), part.shared.size());
  gate_up = carver.take<BF16>(rows * 2 * columns);
  act = carver.take<BF16>(rows * columns);
  if (model.moe.experts > 0) {
    shared = carver.take<BF16>(rows * model.hidden);
    if (model.moe.gated_shared) shared_gate = carver.take<float>(rows);
    router_logits = carver.take<float>(rows * model.moe.experts);
    router_weights = carver.take<float>(rows * model.moe.top_k);
    const std::int64_t runs = plan.draft_layer() ? plan.shape().draft_tokens : 0;
    routing = carver.take<std::int32_t>((plan.layers().size() + runs) * plan.rows() * model.moe.top_k);
  }
}

std::size_t FfnBlock::scratch_bytes(const RankPlan& plan, const Backend& backend) {
  const ModelSpec& model = plan.model();
  if (model.moe.experts == 0) return 0;
  const FfnPart part = largest_part(plan);
  return backend.moe_scratch_bytes(plan.largest().rows().size(), model.moe.top_k, model.hidden,
                                   part.expert_columns.size(), part.experts.size());
}

FfnBlock::FfnBlock(const BlockContext& context, const Arrays& arrays) : c_(context), a_(arrays) {
  const MoeSpec& moe = c_.plan.model().moe;
  router_ = {.kind = moe.router,
             .experts = moe.experts,
             .top_k = moe.top_k,
             .groups = moe.groups,
             .top_groups = moe.top_groups,
             .normalize = moe.normalize_top_k,
             .scaling = static_cast<float>(moe.routed_scaling)};
}

std::int32_t* FfnBlock::choices(std::int64_t layer, std::int64_t draft) const {
  const bool drafts = c_.plan.draft_layer() == layer;
  const std::int64_t place = drafts ? c_.plan.layers().size() + draft : layer - c_.plan.layers().begin;
  return a_.routing + place * c_.plan.rows() * c_.plan.model().moe.top_k;
}

void FfnBlock::run(std::int64_t layer, const Work& work) {
  const RankPlan& plan = c_.plan;
  const LayerWeights& w = c_.weights.layer(layer);
  const std::int64_t hidden = plan.model().hidden;
  BF16* delta = work.stream.delta;

  c_.backend.begin_phase(Phase::ffn);
  const bool parallel = plan.model().blocks == Blocks::parallel;
  if (!parallel) c_.add_and_norm(work, w.post_norm);
  if (!plan.has_ffn()) {
    c_.backend.set_bytes(delta, 0, static_cast<std::size_t>(work.rows() * hidden) * sizeof(BF16));
  } else if (plan.model().layer_kind(layer).moe()) {
    experts(layer, work);
  } else {
    if (plan.whole_requests()) {
      work.observer.phase_done(Phase::ffn);
      c_.backend.begin_phase(Phase::ffn_comm);
      c_.gather_normed(work);
      work.observer.phase_done(Phase::ffn_comm);
      c_.backend.begin_phase(Phase::ffn);
    }
    dense(w, work);
  }
  if (parallel) {
    c_.backend.add(work.attended() * hidden, c_.attention_out,
                   delta + work.batch.attended_rows().begin * hidden);
  }
  work.observer.phase_done(Phase::ffn);
  c_.backend.begin_phase(Phase::ffn_comm);
  // Sums the TPF shards and combines the experts of all EP ranks at once, with them the heads of parallel attention.
  if (plan.whole_requests()) {
    c_.groups.stage->reduce_scatter_rows(delta, work.batch.requests.size(), hidden * work.batch.query_tokens);
  } else {
    c_.groups.stage->all_reduce_sum(delta, work.rows() * hidden);
  }
  if (w.ffn_out_norm != nullptr) c_.norm_output(work, w.ffn_out_norm);
  work.observer.phase_done(Phase::ffn_comm);
}

// Ranks with requests of their own route them and run their shared experts before the others' arrive.
void FfnBlock::experts(std::int64_t layer, const Work& work) {
  const LayerWeights& w = c_.weights.layer(layer);
  const MoeSpec& moe = c_.plan.model().moe;
  const std::int64_t hidden = c_.plan.model().hidden;
  const Range kept = c_.plan.kept_rows(work.batch);
  const bool whole = c_.plan.whole_requests();
  std::int32_t* ids =
      choices(layer, work.draft != nullptr ? work.draft->number : 0) + work.batch.rows().begin * moe.top_k;

  c_.backend.linear(kept.size(), c_.normed + kept.begin * hidden, hidden, w[Weight::router], a_.router_logits,
                    moe.experts);
  c_.backend.route(router_, kept.size(), a_.router_logits, w.router_bias, ids + kept.begin * moe.top_k,
                   a_.router_weights + kept.begin * moe.top_k);
  const bool shared = moe.shared_ffn > 0;
  if (shared) shared_experts(w, work);
  if (whole) {
    work.observer.phase_done(Phase::ffn);
    c_.backend.begin_phase(Phase::ffn_comm);
    c_.gather_rows(work, ids, static_cast<std::size_t>(moe.top_k) * sizeof(std::int32_t));
    c_.gather_rows(work, a_.router_weights, static_cast<std::size_t>(moe.top_k) * sizeof(float));
    c_.gather_normed(work);
    work.observer.phase_done(Phase::ffn_comm);
    c_.backend.begin_phase(Phase::ffn);
  }
  const ExpertShard held{.first = c_.plan.ffn().experts.begin,
                         .gate_up = w[Weight::expert_gate_up],
                         .down = w[Weight::expert_down],
                         .unit = c_.plan.model().gated_unit,
                         .gate_up_bias = w.expert_gate_up_bias,
                         .down_bias = w.expert_down_bias};
  c_.backend.moe_experts(work.rows(), c_.normed, {ids, a_.router_weights, moe.top_k}, held,
                         shared ? a_.shared : nullptr, work.stream.delta, c_.scratch);
}

void FfnBlock::dense(const LayerWeights& w, const Work& work) {
  const std::int64_t hidden = c_.plan.model().hidden, rows = work.rows();
  const PackedWeight& down = w[Weight::down];
  activate(w[Weight::gate_up], w.gate_up_bias, {0, rows});
  c_.backend.linear(rows, a_.act, down.k, down, work.stream.delta, hidden);
  if (w.down_bias != nullptr) c_.backend.add_bias(rows, hidden, w.down_bias, work.stream.delta, hidden);
}

void FfnBlock::shared_experts(const LayerWeights& w, const Work& work) {
  const std::int64_t hidden = c_.plan.model().hidden;
  const Range rows = c_.plan.kept_rows(work.batch);
  const PackedWeight& down = w[Weight::shared_down];
  if (c_.plan.whole_requests()) {
    c_.backend.set_bytes(a_.shared, 0, static_cast<std::size_t>(work.rows() * hidden) * sizeof(BF16));
  }
  activate(w[Weight::shared_gate_up], nullptr, rows);
  BF16* const out = a_.shared + rows.begin * hidden;
  c_.backend.linear(rows.size(), a_.act, down.k, down, out, hidden);
  if (c_.plan.model().moe.gated_shared) {
    c_.backend.linear(rows.size(), c_.normed + rows.begin * hidden, hidden, w[Weight::shared_expert_gate],
                      a_.shared_gate, 1);
    c_.backend.gate_rows(rows.size(), hidden, a_.shared_gate, out);
  }
}

void FfnBlock::activate(const PackedWeight& gate_up, const BF16* bias, Range rows) {
  const std::int64_t hidden = c_.plan.model().hidden;
  c_.backend.linear(rows.size(), c_.normed + rows.begin * hidden, hidden, gate_up, a_.gate_up, gate_up.n);
  if (bias != nullptr) c_.backend.add_bias(rows.size(), gate_up.n, bias, a_.gate_up, gate_up.n);
  c_.backend.gated(c_.plan.model().gated_unit, rows.size(), gate_up.n / 2, a_.gate_up, a_.act);
}

std::vector<std::int32_t> FfnBlock::routing(std::int64_t layer, std::int64_t draft) const {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(c_.plan.rows() * c_.plan.model().moe.top_k));
  c_.backend.copy_to_host(ids.data(), choices(layer, draft), ids.size() * sizeof(std::int32_t));
  return ids;
}

}  // namespace helix
