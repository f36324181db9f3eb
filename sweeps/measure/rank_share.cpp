#include "sweeps/measure/rank_share.hpp"

#include <utility>

#include "roofline/cost/op_cost.hpp"

namespace helix {

RankShare rank_share(Measurement measured, const Prediction& prediction, int pieces) {
  double copies_us = 0;
  for (const Phase phase : {Phase::a2a, Phase::attn_allreduce, Phase::ffn_comm})
    copies_us += std::exchange(measured.phases[phase], 0);
  measured.ttl_rel_stderr *= measured.ttl_us / (measured.ttl_us - copies_us);
  for (double* us : {&measured.ttl_us, &measured.ttl_p90_us, &measured.ttl_p99_us, &measured.ttl_min_us})
    *us -= copies_us;
  for (double& us : measured.samples_us) us -= copies_us;
  measured.exposed_comm_us = 0;

  double all_to_all_us = prediction.phases[Phase::a2a];
  if (pieces > 1) {
    const double attention_us = measured.phases[Phase::attn] + measured.phases[Phase::merge];
    const double whole_us = all_to_all_us + prediction.hidden_comm_us;
    all_to_all_us = pipelined_us(attention_us / pieces, whole_us / pieces, pieces) - attention_us;
  }
  return {.compute = std::move(measured),
          .exchange_us =
              all_to_all_us + prediction.phases[Phase::attn_allreduce] + prediction.phases[Phase::ffn_comm]};
}

}  // namespace helix
