#include <catch2/catch.hpp>

#include "roofline/step/baseline.hpp"
#include "sweeps/predict/plan_summary.hpp"

using namespace helix;

namespace {

SweepPoint point(const ModelSpec& model, Strategy strategy, std::int64_t batch, int ranks) {
  SweepPoint p;
  p.model = &model;
  p.config.model = model.name;
  p.config.strategy = strategy;
  p.config.sharding = {.kvp = ranks, .tpa = 1, .tpf = ranks};
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
  summary.add(0, point(model, Strategy::helix, 1, 8), "s", taking(1000, 1, 8));  // fastest
  summary.add(1, point(model, Strategy::helix, 4, 8), "s", taking(2000, 4, 8));  // on the frontier
  summary.add(2, point(model, Strategy::helix, 2, 8), "s", taking(2000, 2, 8));  // beaten by 1
  summary.add(3, point(model, Strategy::tp, 4, 8), "s", taking(2400, 4, 8));     // beaten by 1, the best tp
  summary.add(4, point(model, Strategy::tp, 8, 8), "s", taking(3000, 8, 8));     // over the budget
  summary.close();

  for (const std::size_t on : {0, 1}) CHECK(summary.on_frontier(on));
  for (const std::size_t off : {2, 3, 4}) CHECK_FALSE(summary.on_frontier(off));
  CHECK(summary.budget_answers() == std::vector<std::size_t>{1, 3});
  CHECK(summary.fastest_ttl_us() == 1000);
  for (const std::size_t kept : {0, 1, 3}) CHECK(summary.is_kept(kept));
  for (const std::size_t dropped : {2, 4}) CHECK_FALSE(summary.is_kept(dropped));
  CHECK(summary.crossover_csv() ==
        "model,context,batch,ranks,weight_dtype,kv_dtype,winner,ttl_us,kvp,tpa,tpf,ep,pp,dp,hop_b,runner_up,"
        "runner_up_ttl_us,gain,system,draft_tokens\n"
        "m,1024,1,8,bf16,bf16,helix,1000,8,1,8,1,1,1,1,,,,s,0\n"
        "m,1024,2,8,bf16,bf16,helix,2000,8,1,8,1,1,1,1,,,,s,0\n"
        "m,1024,4,8,bf16,bf16,helix,2000,8,1,8,1,1,1,1,tp,2400,1.2,s,0\n");
}

TEST_CASE("a plan's summary: top 0 keeps the frontiers alone, and systems do not compete") {
  ModelSpec model;
  model.name = "m";
  PlanSummary summary(std::nullopt, 0);
  summary.add(0, point(model, Strategy::helix, 4, 8), "fast", taking(1000, 4, 8));
  summary.add(1, point(model, Strategy::helix, 2, 8), "fast", taking(1500, 2, 8));
  summary.add(2, point(model, Strategy::helix, 4, 8), "slow", taking(3000, 4, 8));
  summary.close();
  CHECK(summary.frontier_size() == 2);
  CHECK(summary.is_kept(0));
  CHECK_FALSE(summary.is_kept(1));
  CHECK(summary.is_kept(2));
  CHECK_THAT(summary.crossover_csv(), Catch::Contains(",fast,0\n") && Catch::Contains(",slow,0\n"));
}

TEST_CASE(
    "a step with drafts is held against a budget by what a token takes, and meets its like in the crossover "
    "map") {
  ModelSpec model;
  model.name = "m";
  const auto drafting = [&](int drafts, double acceptance) {
    SweepPoint p = point(model, Strategy::helix, 1, 8);
    p.config.shape.draft_tokens = drafts;
    p.config.shape.acceptance = acceptance;
    return p;
  };
  const auto yielding = [](double step_us, double acceptance) {
    Prediction p = taking(step_us, 1, 8);
    p.tokens_per_s_user *= acceptance;
    p.tokens_per_s_gpu *= acceptance;
    return p;
  };
  PlanSummary summary(1.0, std::nullopt);
  summary.add(0, drafting(0, 1), "s", taking(900, 1, 8));
  summary.add(1, drafting(3, 2), "s", yielding(1600, 2));      // 800 us a token
  summary.add(2, drafting(3, 1.5), "s", yielding(1600, 1.5));  // over the budget
  summary.add(3, drafting(3, 0), "s", yielding(950, 0));       // its acceptance is not known
  summary.close();
  CHECK(summary.fastest_ttl_us() == 800);
  CHECK(summary.budget_answers() == std::vector<std::size_t>{1});
  CHECK_FALSE(summary.on_frontier(2));
  CHECK_THAT(summary.crossover_csv(), Catch::Contains(",helix,900,8,1,8,1,1,1,1,,,,s,0\n") &&
                                          Catch::Contains(",helix,800,8,1,8,1,1,1,1,,,,s,3\n"));
}

TEST_CASE("a layout that equals a baseline counts for the baseline: no gain of Helix over itself") {
  ModelSpec model;
  model.name = "m";
  PlanSummary summary(std::nullopt, std::nullopt);
  SweepPoint whole = point(model, Strategy::helix, 8, 8);
  whole.config.sharding = {.kvp = 1, .tpa = 1, .tpf = 2, .ep = 4, .pp = 1, .dp = 8};
  summary.add(0, whole, "s", taking(1000, 8, 8));
  whole.config.strategy = Strategy::dp_ep;
  whole.config.sharding.tpf = 1, whole.config.sharding.ep = 8;
  summary.add(1, whole, "s", taking(1010, 8, 8));
  summary.close();
  CHECK_THAT(summary.crossover_csv(), Catch::Contains("dp+ep,1000,") && Catch::EndsWith(",,,,s,0\n"));

  CHECK(counted_as(Strategy::helix, {.tpa = 8, .tpf = 8}) == Strategy::tp);
  CHECK(counted_as(Strategy::helix, {.tpa = 4, .tpf = 4, .pp = 2}) == Strategy::tp_pp);
  CHECK(counted_as(Strategy::helix, {.tpa = 2, .tpf = 8, .dp = 4}) == Strategy::helix);
  CHECK(counted_as(Strategy::helix, {.kvp = 2, .tpf = 8, .dp = 4}) == Strategy::helix);
  CHECK(counted_as(Strategy::medha, {.kvp = 2}) == Strategy::medha);
}
