// The FFN phase of a layer: the ranks that shared the sequence a moment ago are now a TPF x EP grid (step 8).
#include "kernels/decode_engine.hpp"

namespace helix {

void DecodeEngine::ffn_block(std::int64_t layer, StepObserver& observer) {
  const LayerWeights& w = weights_.layer(layer);
  const std::int64_t batch = shape_.batch;
  const std::int64_t hidden = model_.hidden;

  backend_.add_rms_norm(batch, hidden, a_.delta, false, a_.residual, w.post_norm,
                        static_cast<float>(model_.rms_eps), a_.normed);
  const auto gated = [&](const PackedWeight& gate_up, const PackedWeight& down, BF16* out) {
    backend_.linear(batch, a_.normed, hidden, gate_up, a_.gate_up, gate_up.n);
    backend_.swiglu(batch, down.k, a_.gate_up, a_.act);
    backend_.linear(batch, a_.act, down.k, down, out, hidden);
  };

  if (!model_.layer_kind(layer).moe) {
    gated(w[Weight::gate_up], w[Weight::down], a_.delta);
  } else {
    const MoeSpec& moe = model_.moe;
    std::int32_t* ids = a_.routing + layer * batch * moe.top_k;
    backend_.linear(batch, a_.normed, hidden, w[Weight::router], a_.router_logits, moe.experts);
    backend_.route(router_, batch, a_.router_logits, w.router_bias, ids, a_.router_weights);
    const bool shared = moe.shared_ffn > 0;
    if (shared) gated(w[Weight::shared_gate_up], w[Weight::shared_down], a_.shared);
    backend_.moe_experts(batch, moe.top_k, a_.normed, ids, a_.router_weights,
                         local_experts(model_, sharding_, at_).begin, w[Weight::expert_gate_up],
                         w[Weight::expert_down], shared ? a_.shared : nullptr, a_.delta, a_.scratch);
  }
  observer.phase_done(Phase::ffn);
  // Sums the TPF shards and combines the experts of all EP ranks at once.
  groups_.stage->all_reduce_sum(a_.delta, batch * hidden);
  observer.phase_done(Phase::ffn_comm);
}

}  // namespace helix
