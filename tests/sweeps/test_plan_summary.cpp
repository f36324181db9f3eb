#include <catch2/catch.hpp>

#include "sweeps/plan_summary.hpp"

using namespace helix;

namespace {

SweepPoint point(const ModelSpec& model, Strategy strategy, std::int64_t batch, int ranks) {
  SweepPoint p;
  p.model = &model;
  p.config.model = model.name;
  p.config.strategy = strategy;
  p.config.sharding = {.kvp = 1, .tpa = ranks, .tpf = ranks};
  p.config.shape.context = 1024;
  p.config.shape.batch = batch;
  return p;
}

Prediction taking(double ttl_us, std::int64_t batch, int ranks) {
  Prediction p;
  p.model_ttl_us = ttl_us;
  p.tokens_per_s_user = 1e6 / ttl_us;
  p.tokens_per_s_gpu = static_cast<double>(batch) * 1e6 / ttl_us / ranks;
  return p;
}

}  // namespace

TEST_CASE("a plan's summary: frontier, budget answers, kept rows and crossover map") {
  ModelSpec model;
  model.name = "m";
  PlanSummary summary(2.5, 1);  // 2.5 ms, one row a strategy beside the frontiers
  summary.add(0, point(model, Strategy::helix, 1, 8), taking(1000, 1, 8));  // fastest
  summary.add(1, point(model, Strategy::helix, 4, 8), taking(2000, 4, 8));  // on the frontier
  summary.add(2, point(model, Strategy::helix, 2, 8), taking(2000, 2, 8));  // beaten by 1
  summary.add(3, point(model, Strategy::tp, 4, 8), taking(2400, 4, 8));     // beaten by 1, the best tp
  summary.add(4, point(model, Strategy::tp, 8, 8), taking(3000, 8, 8));  // on the frontier, over the budget
  summary.close();

  for (const std::size_t on : {0, 1, 4}) CHECK(summary.on_frontier(on));
  for (const std::size_t off : {2, 3}) CHECK_FALSE(summary.on_frontier(off));
  CHECK(summary.budget_answers() == std::vector<std::size_t>{1, 3});
  for (const std::size_t kept : {0, 1, 3, 4}) CHECK(summary.is_kept(kept));
  CHECK_FALSE(summary.is_kept(2));
  CHECK(summary.crossover_csv() ==
        "model,context,batch,ranks,weight_dtype,kv_dtype,winner,ttl_us,kvp,tpa,tpf,ep,pp,dp,hop_b,runner_up,"
        "runner_up_ttl_us,gain\n"
        "m,1024,1,8,bf16,bf16,helix,1000,1,8,8,1,1,1,1,,,\n"
        "m,1024,2,8,bf16,bf16,helix,2000,1,8,8,1,1,1,1,,,\n"
        "m,1024,4,8,bf16,bf16,helix,2000,1,8,8,1,1,1,1,tp,2400,1.2\n"
        "m,1024,8,8,bf16,bf16,tp,3000,1,8,8,1,1,1,1,,,\n");
}
