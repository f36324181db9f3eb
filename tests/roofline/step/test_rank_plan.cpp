#include <catch2/catch.hpp>
#include <string>
#include <variant>

#include "roofline/step/rank_plan.hpp"
#include "test_models.hpp"

using namespace helix;

namespace {

std::string reason(const Instance::Parts& parts) {
  const auto made = Instance::make(parts);
  const auto* why = std::get_if<std::string>(&made);
  return why == nullptr ? "legal" : *why;
}

}  // namespace

TEST_CASE("an instance is legal, with a layer for each stage, or there is a reason") {
  const ModelSpec model = load_model("tiny-gqa");
  const auto with = [&](const Sharding& sharding, std::int64_t layers) {
    return reason({.model = model,
                   .strategy = sharding.pp > 1 ? Strategy::tp_pp : Strategy::helix,
                   .sharding = sharding,
                   .shape = {.context = 64},
                   .layers = layers});
  };
  CHECK(with({.kvp = 2, .tpf = 2}, 1) == "legal");
  CHECK(with({.pp = 2}, 2) == "legal");
  CHECK_THAT(with({.pp = 2}, 1), Catch::Contains("layers=1") && Catch::Contains("pp=2"));
  CHECK_THAT(with({}, model.layers + 1), Catch::Contains("layers=") && Catch::Contains(model.name));
  CHECK_THAT(with({}, 0), Catch::Contains("layers=0"));
  CHECK_THAT(with({.kvp = 2, .tpf = 1}, 1), Catch::Contains("TPF x EP"));  // of why_illegal
}

TEST_CASE("the ranks' plans are parts of one whole") {
  const ModelSpec model = divisible(load_model("tiny-mla-lite"), 1);
  const DecodeShape shape{.context = 100, .batch = 13, .tokens_per_block = 8};
  const Instance instance = legal_instance(model, {.kvp = 2, .tpf = 2, .ep = 2, .dp = 2}, shape);
  std::int64_t heads = 0, tokens = 0, experts = 0, vocab = 0, dense = 0;
  for (int rank = 0; rank < 4; ++rank) {
    const RankPlan plan(instance, rank);
    CHECK(plan.layers() == Range{0, model.layers});
    CHECK((plan.first_stage() && plan.last_stage() && plan.has_ffn()));
    CHECK(plan.attended() == (rank < 2 ? 7 : 6));
    CHECK(plan.kept_rows(plan.largest()) == Range{0, 13});
    heads += plan.attention().owned.size();
    tokens += plan.attention().history.size();
    vocab += plan.vocab().size();
    dense += plan.ffn().dense.size();
    experts += plan.ffn().experts.size() * plan.ffn().expert_columns.size();
  }
  CHECK(heads == 2 * model.attention.q_heads);  // each DP group has them all
  CHECK(tokens == 2 * shape.context);
  CHECK(vocab == model.vocab);
  CHECK(dense == model.ffn);
  CHECK(experts == model.moe.experts * model.moe.expert_ffn);
}

TEST_CASE("a rank that attends whole requests keeps theirs alone, with the shared experts whole") {
  const ModelSpec model = divisible(load_model("tiny-mla-lite"), 1);
  const Instance instance = legal_instance(model, {.tpf = 1, .ep = 2, .dp = 2}, {.context = 100, .batch = 5});
  const RankPlan second(instance, 1);
  CHECK(second.whole_requests());
  CHECK(second.kept_rows(second.largest()) == Range{3, 5});
  CHECK(second.ffn().shared == Range{0, model.moe.shared_ffn});
  CHECK(second.ffn().dense == Range{model.ffn / 2, model.ffn});
}

TEST_CASE("a rank that idles in the FFN has no part of it") {
  const ModelSpec model = load_model("tiny-mla-lite");
  const Instance instance = legal_instance(model, {.kvp = 2, .tpf = 1}, {.context = 64});
  const RankPlan idle(instance, 1);
  CHECK_FALSE(idle.has_ffn());
  CHECK(idle.ffn().dense.size() + idle.ffn().experts.size() + idle.ffn().shared.size() == 0);
}

TEST_CASE("a cache has room for whole rounds of the staggered append, in whole pages") {
  const ModelSpec model = load_model("tiny-gqa");
  const DecodeShape shape{.context = 100, .batch = 3, .tokens_per_block = 16};
  const Instance instance = legal_instance(model, {.kvp = 2, .tpf = 2}, shape);
  for (const auto& [steps, growth] : {std::pair{1, 16}, std::pair{32, 16}, std::pair{33, 32}}) {
    CAPTURE(steps);
    CHECK(RankPlan(instance, 0).cache_rooms(steps).front().growth == growth);
    CHECK(RankPlan(instance, 0).tokens_with_room(steps) == 2 * growth);
  }
  const CacheRoom second = RankPlan(instance, 1).cache_rooms(1).front();
  CHECK(second.history == Range{64, 100});
  CHECK(second.requests == 3);
  CHECK(second.pages_per_request() == 4);  // 36 + 16 tokens
}

TEST_CASE("layers that keep as many tokens share a cache, in each stage those that it has") {
  const ModelSpec model = with_windows(load_model("tiny-gqa"), 11);
  const DecodeShape shape{.context = 100, .batch = 3, .tokens_per_block = 4};
  REQUIRE(model.layers == 3);
  const RankPlan one(legal_instance(model, {.kvp = 2, .tpf = 2}, shape), 1);
  const std::vector<CacheRoom> rooms = one.cache_rooms(5);
  REQUIRE(rooms.size() == 2);
  CHECK((rooms[0].layers == std::vector<std::int64_t>{0, 2} && one.cache_of(2) == 0));
  CHECK((rooms[0].history == Range{97, 100} && rooms[0].growth == 0));  // of the window 89 to 100
  CHECK((rooms[1].layers == std::vector<std::int64_t>{1} && one.cache_of(1) == 1));
  CHECK((rooms[1].history == Range{52, 100} && rooms[1].growth == 4));
  const RankPlan first_stage(legal_instance(model, {.pp = 3}, shape), 0);
  REQUIRE(first_stage.caches().size() == 1);
  CHECK(first_stage.caches()[0].kept.window == 11);
}

TEST_CASE("HOP-B's pieces are of requests, and one where there is no exchange to hide") {
  const ModelSpec model = load_model("tiny-gqa");
  const DecodeShape shape{.context = 64, .batch = 5, .hop_b = 3};
  const AttentionPart shared = RankPlan(legal_instance(model, {.kvp = 2, .tpf = 2}, shape), 0).attention();
  CHECK(shared.pieces(5).count == 3);
  CHECK(shared.pieces(5).largest() == 2);
  CHECK(shared.pieces(5)[2] == Range{4, 5});
  CHECK(shared.pieces(2).count == 2);
  CHECK(RankPlan(legal_instance(model, {}, shape), 0).attention().pieces(5).count == 1);
}
