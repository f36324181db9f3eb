#include <catch2/catch.hpp>

#include <string>

#include "sweeps/enumerate.hpp"
#include "sweeps/rows.hpp"
#include "sweeps/trtllm_config.hpp"
#include "tests/usage_error.hpp"

using namespace helix;

namespace {

SweepSpace trtllm(const std::string& text) {
  SweepSpace space;
  parse_trtllm_config(text, "trt.yaml", space);
  return space;
}

/// The points that a sweep of the configuration has for the row's model, context and batch.
std::vector<SweepPoint> points_of(const std::string& config, const ResultRow& row, ModelTable& models) {
  SweepSpace space = trtllm(config);
  space.models = {row.config.model};
  space.contexts = {Choice::Kind::listed, {row.config.shape.context}};
  space.batches = {Choice::Kind::listed, {row.config.shape.batch}};
  space.weight_dtypes = {row.config.shape.weight_dtype};
  models = load_models({space});
  std::vector<SweepPoint> points;
  for_each_point(space, models, {.max_ranks = 64}, [&](const SweepPoint& point) { points.push_back(point); });
  return points;
}

}  // namespace

TEST_CASE("a TensorRT-LLM configuration becomes a Helix deployment") {
  const std::string json =
      R"({"context_parallel_size": 8, "tensor_parallel_size": 2, "moe_expert_parallel_size": 4,
      "pipeline_parallel_size": 1, "cp_config": {"cp_type": "HELIX", "tokens_per_block": 64, "fifo_version": 2},
      "kv_cache_config": {"tokens_per_block": 64}})";
  const SweepSpace space = trtllm(json);
  CHECK(space.strategies == std::vector<Strategy>{Strategy::helix});
  CHECK(space.kvp.values == std::vector<std::int64_t>{8});
  CHECK(space.tpa.values == std::vector<std::int64_t>{2});
  CHECK(space.ep.values == std::vector<std::int64_t>{4});
  CHECK(space.pp.values == std::vector<std::int64_t>{1});
  CHECK(space.tokens_per_block == 64);
  CHECK(trtllm("context_parallel_size: 2\ncp_config:\n  cp_type: HELIX\n").tokens_per_block == 32);
}

TEST_CASE("a TensorRT-LLM configuration that is no Helix is refused with both values named") {
  CHECK_THAT(usage_error([] { trtllm("cp_config: {cp_type: ULYSSES}"); }),
             Catch::Contains("'ULYSSES'") && Catch::Contains("'HELIX'"));
  CHECK_THAT(usage_error([] { trtllm("context_parallel_size: 2"); }),
             Catch::Contains("missing") && Catch::Contains("'HELIX'"));
  CHECK_THAT(
      usage_error([] {
        trtllm("cp_config: {cp_type: HELIX, tokens_per_block: 32}\nkv_cache_config: {tokens_per_block: 64}");
      }),
      Catch::Contains("32") && Catch::Contains("64"));
  CHECK_THAT(usage_error([] { trtllm("cp_config: {cp_type: HELIX}\ncontext_parallel_size: 0"); }),
             Catch::Contains("context_parallel_size"));
  CHECK_THAT(usage_error([] { trtllm("cp_config: HELIX"); }), Catch::Contains("cp_config"));
}

TEST_CASE("what is exported for TensorRT-LLM reads back as the same deployment") {
  const auto [strategy, sharding] = GENERATE(values<std::pair<Strategy, Sharding>>({
      {Strategy::helix, {.kvp = 8, .tpa = 1, .tpf = 2, .ep = 4, .pp = 1, .dp = 1}},
      {Strategy::helix, {.kvp = 8, .tpa = 1, .tpf = 8, .ep = 1, .pp = 2, .dp = 1}},
      {Strategy::helix, {.kvp = 4, .tpa = 1, .tpf = 1, .ep = 32, .pp = 1, .dp = 8}},
      {Strategy::helix, {.kvp = 1, .tpa = 1, .tpf = 2, .ep = 4, .pp = 1, .dp = 8}},
      {Strategy::tp, {.kvp = 1, .tpa = 8, .tpf = 4, .ep = 2, .pp = 1, .dp = 1}},
      {Strategy::tp_pp, {.kvp = 1, .tpa = 4, .tpf = 1, .ep = 4, .pp = 4, .dp = 1}},
      {Strategy::dp_ep, {.kvp = 1, .tpa = 1, .tpf = 1, .ep = 16, .pp = 1, .dp = 16}},
  }));
  ResultRow row = predicted_row(strategy, sharding);
  row.config.shape.tokens_per_block = 64;
  const std::string config = trtllm_config(row);
  CAPTURE(row.id, config);
  ModelTable models;
  const std::vector<SweepPoint> points = points_of(config, row, models);
  REQUIRE(points.size() == 1);
  CHECK(points[0].skip_reason.empty());
  CHECK(points[0].config.strategy == strategy);
  CHECK(points[0].config.sharding == sharding);
  CHECK(points[0].config.shape.tokens_per_block == 64);
  CHECK(points[0].config.shape.kv_dtype == DType::fp8);
}

TEST_CASE("a TensorRT-LLM configuration says what TensorRT-LLM reads and comments on the rest") {
  ResultRow row =
      predicted_row(Strategy::helix, {.kvp = 8, .tpa = 2, .tpf = 16, .ep = 1, .pp = 1, .dp = 1}, 8e3, 4);
  row.config.model = "llama-3.1-405b";
  row.config.shape.hop_b = 4;
  row.id = "the-id";
  CHECK(trtllm_config(row) ==
        "# the-id\n"
        "# llama-3.1-405b: helix on 16 GPUs, KVP 8 TPA 2 > TPF 16 EP 1 HOP-B 4\n"
        "# predicted with gb200: 125 tokens/s/user, 31.25 tokens/s/GPU, 4 requests of 1048576 tokens\n"
        "# weights are nvfp4: serve a checkpoint of this precision\n"
        "# Helix is for generation servers of a disaggregated deployment.\n"
        "# Where all GPUs share NVLink, cp_config.use_nccl_for_alltoall: false is faster.\n"
        "# Documented for MLA models; llama-3.1-405b has GQA: try whether your version runs it.\n"
        "# HOP-B is not in TensorRT-LLM: the figures above have 4 micro-batches, expect those of hop_b = 1.\n"
        "tensor_parallel_size: 2\n"
        "context_parallel_size: 8\n"
        "pipeline_parallel_size: 1\n"
        "cp_config:\n"
        "  cp_type: HELIX\n"
        "  tokens_per_block: 32\n"
        "kv_cache_config:\n"
        "  tokens_per_block: 32\n"
        "  dtype: fp8\n"
        "max_batch_size: 4\n");
}

TEST_CASE("what TensorRT-LLM has no layout for is refused with its widths") {
  const auto refusal = [](Strategy strategy, const Sharding& sharding) {
    return usage_error([&] { trtllm_config(predicted_row(strategy, sharding)); });
  };
  CHECK_THAT(refusal(Strategy::medha, {.kvp = 4, .tpa = 1, .tpf = 1, .ep = 1, .pp = 1, .dp = 1}),
             Catch::Contains("medha") && Catch::Contains("TensorRT-LLM"));
  CHECK_THAT(refusal(Strategy::helix, {.kvp = 2, .tpa = 2, .tpf = 8, .ep = 1, .pp = 1, .dp = 2}),
             Catch::Contains("DP 2") && Catch::Contains("TPA 2"));
  CHECK_THAT(usage_error([] { trtllm("tensor_parallel_size: 2\nkv_cache_config: {dtype: int8}"); }),
             Catch::Contains("'int8'") && Catch::Contains("nvfp4"));
}
