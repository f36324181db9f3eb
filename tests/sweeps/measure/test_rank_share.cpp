#include <catch2/catch.hpp>

#include "sweeps/measure/rank_share.hpp"

using namespace helix;

namespace {

Measurement alone() {
  Measurement m;
  m.phases[Phase::attn] = 80;
  m.phases[Phase::merge] = 20;
  m.phases[Phase::ffn] = 70;
  m.phases[Phase::a2a] = 5;  // its own copies
  m.phases[Phase::attn_allreduce] = 3;
  m.phases[Phase::ffn_comm] = 2;
  m.samples_us = {180, 190};
  m.samples = 2;
  m.ttl_us = 180;
  m.ttl_p90_us = m.ttl_p99_us = 190;
  m.ttl_min_us = 180;
  m.ttl_rel_stderr = 0.017;
  return m;
}

Prediction predicted() {
  Prediction p;
  p.phases[Phase::attn] = 1000;  // of another machine, say
  p.phases[Phase::a2a] = 40;
  p.hidden_comm_us = 20;
  p.phases[Phase::attn_allreduce] = 7;
  p.phases[Phase::ffn_comm] = 11;
  return p;
}

}  // namespace

TEST_CASE("a rank's own copies are no part of what it computes, all ranks' exchanges are the prediction's") {
  Prediction p = predicted();
  p.hidden_comm_us = 0;
  const RankShare share = rank_share(alone(), p, 1);
  CHECK(share.compute.ttl_us == 170);
  CHECK(share.compute.samples_us == std::vector<double>{170, 180});
  CHECK(share.compute.ttl_p99_us == 180);
  CHECK(share.compute.ttl_rel_stderr == Approx(0.018));
  CHECK(share.compute.phases.total() == 170);
  CHECK(share.exchange_us == 40 + 7 + 11);
  CHECK(share.composed_us() == 228);
}

TEST_CASE("HOP-B hides as much of the exchange as the measured attention has room for") {
  // 100 us of attention and 60 of exchange in 4 pieces: all but the last piece's 15 us are hidden.
  CHECK(rank_share(alone(), predicted(), 4).exchange_us == Approx(15 + 7 + 11));
  // 300 of exchange: 25 of attention, then 75 each.
  Prediction slow = predicted();
  slow.hidden_comm_us = 260;
  CHECK(rank_share(alone(), slow, 4).exchange_us == Approx(25 + 300 - 100 + 7 + 11));
}
