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
  const std::int64_t rows = plan.largest().requests.size();
  const std::int64_t columns = std::max(part.dense.size(), part.shared.size());
  gate_up = carver.take<BF16>(rows * 2 * columns);
  act = carver.take<BF16>(rows * columns);
  if (model.moe.experts > 0) {
    shared = carver.take<BF16>(rows * model.hidden);
    router_logits = carver.take<float>(rows * model.moe.experts);
    router_weights = carver.take<float>(rows * model.moe.top_k);
    routing = carver.take<std::int32_t>(plan.layers().size() * plan.shape().batch * model.moe.top_k);
  }
}

std::size_t FfnBlock::scratch_bytes(const RankPlan& plan, const Backend& backend) {
  const ModelSpec& model = plan.model();
  if (model.moe.experts == 0) return 0;
  const FfnPart part = largest_part(plan);
  return backend.moe_scratch_bytes(plan.largest().requests.size(), model.moe.top_k, model.hidden,
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

std::int32_t* FfnBlock::choices(std::int64_t layer) const {
  return a_.routing + (layer - c_.plan.layers().begin) * c_.plan.shape().batch * c_.plan.model().moe.top_k;
}

void FfnBlock::run(std::int64_t layer, const Work& work) {
  const RankPlan& plan = c_.plan;
  const LayerWeights& w = c_.weights.layer(layer);
  const std::int64_t hidden = plan.model().hidden;
  BF16* delta = work.stream.delta;

  c_.add_and_norm(work, w.post_norm);
  if (!plan.has_ffn()) {
    c_.backend.set_bytes(delta, 0, static_cast<std::size_t>(work.rows() * hidden) * sizeof(BF16));
  } else if (plan.model().layer_kind(layer).moe()) {
    experts(layer, work);
  } else {
    if (plan.whole_requests()) {
      work.observer.phase_done(Phase::ffn);
      c_.gather_normed(work);
      work.observer.phase_done(Phase::ffn_comm);
    }
    gated(w[Weight::gate_up], w[Weight::down], {0, work.rows()}, delta);
  }
  work.observer.phase_done(Phase::ffn);
  // Sums the TPF shards and combines the experts of all EP ranks at once.
  if (plan.whole_requests()) {
    c_.groups.stage->reduce_scatter_rows(delta, work.rows(), hidden);
  } else {
    c_.groups.stage->all_reduce_sum(delta, work.rows() * hidden);
  }
  work.observer.phase_done(Phase::ffn_comm);
}

// Ranks with requests of their own route them and run their shared experts before the others' arrive.
void FfnBlock::experts(std::int64_t layer, const Work& work) {
  const LayerWeights& w = c_.weights.layer(layer);
  const MoeSpec& moe = c_.plan.model().moe;
  const std::int64_t hidden = c_.plan.model().hidden;
  const Range kept = c_.plan.kept_rows(work.batch);
  const bool whole = c_.plan.whole_requests();
  std::int32_t* ids = choices(layer) + work.batch.requests.begin * moe.top_k;

  c_.backend.linear(kept.size(), c_.normed + kept.begin * hidden, hidden, w[Weight::router], a_.router_logits,
                    moe.experts);
  c_.backend.route(router_, kept.size(), a_.router_logits, w.router_bias, ids + kept.begin * moe.top_k,
                   a_.router_weights + kept.begin * moe.top_k);
  const bool shared = moe.shared_ffn > 0;
  if (shared) {
    if (whole) {
      c_.backend.set_bytes(a_.shared, 0, static_cast<std::size_t>(work.rows() * hidden) * sizeof(BF16));
    }
    gated(w[Weight::shared_gate_up], w[Weight::shared_down], kept, a_.shared);
  }
  if (whole) {
    work.observer.phase_done(Phase::ffn);
    c_.gather_rows(work, ids, static_cast<std::size_t>(moe.top_k) * sizeof(std::int32_t));
    c_.gather_rows(work, a_.router_weights, static_cast<std::size_t>(moe.top_k) * sizeof(float));
    c_.gather_normed(work);
    work.observer.phase_done(Phase::ffn_comm);
  }
  const ExpertShard held{.first = c_.plan.ffn().experts.begin,
                         .gate_up = w[Weight::expert_gate_up],
                         .down = w[Weight::expert_down]};
  c_.backend.moe_experts(work.rows(), c_.normed, {ids, a_.router_weights, moe.top_k}, held,
                         shared ? a_.shared : nullptr, work.stream.delta, c_.scratch);
}

void FfnBlock::gated(const PackedWeight& gate_up, const PackedWeight& down, Range rows, BF16* out) {
  const std::int64_t hidden = c_.plan.model().hidden;
  c_.backend.linear(rows.size(), c_.normed + rows.begin * hidden, hidden, gate_up, a_.gate_up, gate_up.n);
  c_.backend.swiglu(rows.size(), down.k, a_.gate_up, a_.act);
  c_.backend.linear(rows.size(), a_.act, down.k, down, out + rows.begin * hidden, hidden);
}

std::vector<std::int32_t> FfnBlock::routing(std::int64_t layer) const {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(c_.plan.shape().batch * c_.plan.model().moe.top_k));
  c_.backend.copy_to_host(ids.data(), choices(layer), ids.size() * sizeof(std::int32_t));
  return ids;
}

}  // namespace helix
