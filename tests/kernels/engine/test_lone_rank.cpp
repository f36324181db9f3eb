#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>
#include <vector>

#include "kernels/comm/lone_communicator.hpp"
#include "kernels/engine/decode_engine.hpp"
#include "test_models.hpp"

using namespace helix;

TEST_CASE("a rank alone is sent what it sends, by every other rank") {
  const auto backend = make_cpu_backend(1);
  const Groups groups = lone_groups(*backend, {.kvp = 2, .tpa = 2, .tpf = 4});
  CHECK(groups.stage->size() == 4);
  CHECK(groups.kvp->size() == 2);
  CHECK(groups.rank() == 0);
  const std::vector<std::int32_t> own{7, 8};
  std::vector<std::int32_t> all(8, -1);
  groups.stage->all_gather(reinterpret_cast<const std::byte*>(own.data()),
                           reinterpret_cast<std::byte*>(all.data()), 8);
  CHECK(all == std::vector<std::int32_t>{7, 8, 7, 8, 7, 8, 7, 8});
  std::vector<std::int32_t> pieces(4, -1);
  groups.kvp->start_all_to_all(0, reinterpret_cast<const std::byte*>(own.data()),
                               reinterpret_cast<std::byte*>(pieces.data()), 4);
  groups.kvp->finish_all_to_all(0);
  CHECK(pieces == std::vector<std::int32_t>{7, 7, -1, -1});
}

TEST_CASE("what a rank alone cannot stand for is said") {
  CHECK(why_not_alone({.kvp = 8, .tpa = 1, .tpf = 1, .ep = 8}).empty());
  CHECK_THAT(why_not_alone({.kvp = 2, .tpa = 1, .tpf = 2, .ep = 1, .pp = 2}),
             Catch::Contains("pp is to be 1"));
  CHECK_THAT(why_not_alone({.kvp = 1, .tpa = 1, .tpf = 1, .ep = 2, .dp = 2}), Catch::Contains("dp+ep"));
}

TEST_CASE("a rank alone computes numbers like any other's, and the requests of its batch do not become one") {
  const auto backend = make_cpu_backend(1);
  for (const char* name : {"tiny-gqa", "tiny-mla", "tiny-qwen3-moe"}) {
    const ModelSpec model = load_model(name);
    const int ep = model.moe.experts > 0 ? 4 : 1;
    for (const Sharding& sharding : {Sharding{.kvp = 4, .tpa = 1, .tpf = 4 / ep, .ep = ep},
                                     Sharding{.kvp = 1, .tpa = 4, .tpf = 4 / ep, .ep = ep}}) {
      for (const int hop_b : {1, 3}) {
        if (hop_b > 1 && sharding.kvp == 1) continue;
        CAPTURE(name, sharding.kvp, hop_b);
        DecodeShape shape;
        shape.context = 5;  // of four shards the last ones are empty
        shape.batch = 6;
        shape.tokens_per_block = 2;
        shape.hop_b = hop_b;
        const Instance instance = legal_instance(model, sharding, shape);
        const Groups groups = lone_groups(*backend, sharding);
        WeightStore weights(*backend);
        weights.load(RankPlan(instance, 0));
        EngineMemory memory;
        StepObserver unobserved;
        DecodeEngine engine(instance, 4, *backend, groups, weights, memory);
        for (int step = 0; step < 4; ++step) engine.step(unobserved);
        const std::vector<std::int32_t> tokens = engine.tokens();
        const Range own = engine.plan().vocab();
        CHECK(std::ranges::all_of(tokens, [&](std::int32_t t) { return t >= own.begin && t < own.end; }));
        CHECK(std::set(tokens.begin(), tokens.end()).size() > 1);
        CHECK(std::ranges::all_of(engine.gather_logits(), [](float x) { return std::isfinite(x); }));
      }
    }
  }
}
