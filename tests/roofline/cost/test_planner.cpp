#include <catch2/catch.hpp>
#include <cstring>
#include <random>

#include "roofline/cost/planner.hpp"
#include "tests/draft_heads.hpp"

using namespace helix;

TEST_CASE("The planner's shared parts give the very predictions of predict()") {
  SystemSpec gb200 = load_system("gb200");
  std::mt19937 random(11);
  const auto power = [&](int most) { return 1 << (random() % static_cast<unsigned>(most + 1)); };
  for (const ModelSpec& m :
       {load_model("deepseek-r1"), load_model("deepseek-v3.2"), load_model("llama-3.1-405b"),
        load_model("gpt-oss-120b"), load_model("qwen3-235b-a22b"),
        test::with_head("deepseek-r1", test::deepseek_head())}) {
    gb200.engine = m.moe.experts > 0 ? Engine::vllm : Engine::none;  // vLLM pads steps and gathers tokens
    Planner planner(m, gb200);
    int legal = 0;
    for (int i = 0; i < 40000; ++i) {
      Sharding s{.kvp = power(5), .tpa = power(3), .pp = power(2), .dp = power(2)};
      s.ep = power(4);
      s.tpf = s.stage_ranks() / s.ep;
      const DecodeShape shape{.context = 1 << (10 + random() % 11),
                              .batch = power(12),
                              .tokens_per_block = random() % 2 ? 32 : 64,
                              .hop_b = power(2),
                              .weight_dtype = random() % 2 ? DType::fp4 : DType::fp8,
                              .kv_dtype = random() % 2 ? DType::fp8 : DType::bf16,
                              .exchange = {.queries = static_cast<CacheExchange::Queries>(random() % 2),
                                           .merge = static_cast<CacheExchange::Merge>(random() % 2)},
                              .draft_tokens = static_cast<int>(random() % 4),
                              .acceptance = 1 + 0.1 * static_cast<double>(random() % 3),
                              .draft_kv = random() % 2 ? DraftKv::local : DraftKv::sharded};
      if (s.tpf < 1 || why_illegal(m, Strategy::helix, s, shape)) continue;
      ++legal;
      const Prediction shared = planner.predict(s, shape);
      const Prediction direct = predict({m, s, shape}, gb200);
      INFO(m.name << " kvp " << s.kvp << " tpa " << s.tpa << " dp " << s.dp << " pp " << s.pp << " batch "
                  << shape.batch << " context " << shape.context);
      REQUIRE(shared.model_ttl_us == direct.model_ttl_us);
      REQUIRE(shared.roofline_ttl_us == direct.roofline_ttl_us);
      REQUIRE(shared.phases.us == direct.phases.us);
      REQUIRE(shared.tokens_per_s_gpu == direct.tokens_per_s_gpu);
      REQUIRE(shared.bound == direct.bound);
      REQUIRE(shared.exposed_comm_us == direct.exposed_comm_us);
      REQUIRE(shared.kv_bytes_per_rank == direct.kv_bytes_per_rank);
      REQUIRE(shared.weight_bytes_per_rank == direct.weight_bytes_per_rank);
      REQUIRE(shared.comm_bytes_per_rank == direct.comm_bytes_per_rank);
      REQUIRE(shared.memory_bytes_per_rank == direct.memory_bytes_per_rank);
      REQUIRE(shared.max_batch == direct.max_batch);
      REQUIRE(shared.max_context == direct.max_context);
    }
    INFO(m.name);
    CHECK(legal > 500);
  }
}
