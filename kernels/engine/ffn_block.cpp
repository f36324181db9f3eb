// The FFN phase of a layer: the ranks that shared the sequence a moment ago are now a TPF x EP grid (step 8).
// Every rank of it works on all requests. Where ranks attend whole requests alone, each holds the residual
// stream of its own only: their normed rows are gathered before, and the sums scattered after the FFN.
#include "kernels/engine/decode_engine.hpp"

namespace helix {

void DecodeEngine::ffn_block(std::int64_t layer, StepObserver& observer) {
  const LayerWeights& w = weights_.layer(layer);
  const std::int64_t hidden = model_.hidden;
  const Range kept = kept_rows();
  BF16* delta = a_.stream.delta;

  backend_.add_rms_norm(kept.size(), hidden, delta + kept.begin * hidden, false,
                        a_.stream.residual + kept.begin * hidden, w.post_norm,
                        static_cast<float>(model_.rms_eps), a_.normed + kept.begin * hidden);
  if (!has_ffn(sharding_, at_)) {
    backend_.set_bytes(delta, 0, static_cast<std::size_t>(rows() * hidden) * sizeof(BF16));
  } else if (model_.layer_kind(layer).moe()) {
    moe_ffn(layer, observer);
  } else {
    if (whole_requests_) {
      observer.phase_done(Phase::ffn);
      gather_rows(a_.normed, static_cast<std::size_t>(hidden) * sizeof(BF16));
      observer.phase_done(Phase::ffn_comm);
    }
    gated(w[Weight::gate_up], w[Weight::down], {0, rows()}, delta);
  }
  observer.phase_done(Phase::ffn);
  // Sums the TPF shards and combines the experts of all EP ranks at once.
  if (whole_requests_) {
    groups_.stage->reduce_scatter_rows(delta, rows(), hidden);
  } else {
    groups_.stage->all_reduce_sum(delta, rows() * hidden);
  }
  observer.phase_done(Phase::ffn_comm);
}

// Ranks with requests of their own route them and run their shared experts before the others' arrive.
void DecodeEngine::moe_ffn(std::int64_t layer, StepObserver& observer) {
  const LayerWeights& w = weights_.layer(layer);
  const MoeSpec& moe = model_.moe;
  const std::int64_t hidden = model_.hidden;
  const Range kept = kept_rows();
  std::int32_t* ids =
      a_.routing + ((layer - stage_layers_.begin) * shape_.batch + now_.requests.begin) * moe.top_k;

  backend_.linear(kept.size(), a_.normed + kept.begin * hidden, hidden, w[Weight::router], a_.router_logits,
                  moe.experts);
  backend_.route(router_, kept.size(), a_.router_logits, w.router_bias, ids + kept.begin * moe.top_k,
                 a_.router_weights + kept.begin * moe.top_k);
  const bool shared = moe.shared_ffn > 0;
  if (shared) {
    if (whole_requests_) {
      backend_.set_bytes(a_.shared, 0, static_cast<std::size_t>(rows() * hidden) * sizeof(BF16));
    }
    gated(w[Weight::shared_gate_up], w[Weight::shared_down], kept, a_.shared);
  }
  if (whole_requests_) {
    observer.phase_done(Phase::ffn);
    gather_rows(ids, static_cast<std::size_t>(moe.top_k) * sizeof(std::int32_t));
    gather_rows(a_.router_weights, static_cast<std::size_t>(moe.top_k) * sizeof(float));
    gather_rows(a_.normed, static_cast<std::size_t>(hidden) * sizeof(BF16));
    observer.phase_done(Phase::ffn_comm);
  }
  const ExpertShard experts{.first = local_experts(model_, sharding_, at_).begin,
                            .gate_up = w[Weight::expert_gate_up],
                            .down = w[Weight::expert_down]};
  backend_.moe_experts(rows(), a_.normed, {ids, a_.router_weights, moe.top_k}, experts,
                       shared ? a_.shared : nullptr, a_.stream.delta, a_.scratch);
}

void DecodeEngine::gated(const PackedWeight& gate_up, const PackedWeight& down, Range rows, BF16* out) {
  const std::int64_t hidden = model_.hidden;
  backend_.linear(rows.size(), a_.normed + rows.begin * hidden, hidden, gate_up, a_.gate_up, gate_up.n);
  backend_.swiglu(rows.size(), down.k, a_.gate_up, a_.act);
  backend_.linear(rows.size(), a_.act, down.k, down, out + rows.begin * hidden, hidden);
}

}  // namespace helix
