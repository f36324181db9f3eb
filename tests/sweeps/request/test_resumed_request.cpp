#include <catch2/catch.hpp>

#include "sweeps/request/resumed_request.hpp"
#include "tests/usage_error.hpp"

using namespace helix;

namespace {

/// What is said when a run that began with `before` is resumed with `now`; empty if it goes on.
std::string refusal(const SweepRequest& before, const SweepRequest& now, int ranks_before = 2,
                    int ranks_now = 2) {
  const auto lasting = [](const SweepRequest& request, int ranks) {
    return lasting_request(request, load_models(request.blocks), ranks);
  };
  const nlohmann::ordered_json run{{"request", lasting(before, ranks_before)},
                                   {"command_line", {"helix-bench", "sweep", "--seed", "1"}}};
  return usage_error([&] { refuse_other_request(run, lasting(now, ranks_now), "dir"); });
}

SweepRequest request_of(const std::string& model = "tiny-gqa") {
  SweepRequest request;
  request.blocks.resize(1);
  request.blocks[0].models = {model};
  return request;
}

}  // namespace

TEST_CASE("a run is resumed with what it began with, or refused by naming what differs") {
  const SweepRequest begun = request_of();
  CHECK(refusal(begun, begun).empty());

  SweepRequest wider = begun;
  wider.blocks[0].contexts = {Choice::Kind::listed, {64, 128}};
  wider.blocks[0].strategies = {Strategy::tp};
  wider.out = "elsewhere";
  CHECK(refusal(begun, wider).empty());  // each row says its own context and strategy

  SweepRequest seed = begun;
  seed.seed = 7;
  CHECK_THAT(refusal(begun, seed), Catch::Contains("--seed 1, not 7") && Catch::Contains("'dir'") &&
                                       Catch::Contains("helix-bench sweep --seed 1"));
  CHECK_THAT(refusal(begun, request_of("tiny-mla")), Catch::Contains("--model tiny-gqa, not tiny-mla"));
  SweepRequest dtype = begun;
  dtype.blocks[0].kv_dtypes = {DType::fp8};
  CHECK_THAT(refusal(begun, dtype), Catch::Contains("--kv-dtype bf16, not fp8"));
  CHECK_THAT(refusal(begun, begun, 2, 4), Catch::Contains("2 ranks, not 4"));
  SweepRequest rule = begun;
  rule.stopping.relative_error = 0.25;
  rule.ttl_budget_ms = 20;
  CHECK_THAT(refusal(begun, rule), Catch::Contains("--rel-error") && Catch::Contains("0.25") &&
                                       Catch::Contains("--ttl-budget none, not 20"));
  SweepRequest system = begun;
  system.systems = {"h100"};
  CHECK_THAT(refusal(begun, system), Catch::Contains("--system auto, not h100"));
}

TEST_CASE("a run that ended before it wrote a run.json is resumed with anything") {
  CHECK(usage_error([] { refuse_other_request(nullptr, {{"seed", 1}}, "dir"); }).empty());
}
