#include <catch2/catch.hpp>

#include "sweeps/export/deployed.hpp"
#include "sweeps/export/sglang_command.hpp"
#include "tests/usage_error.hpp"

using namespace helix;

namespace {

std::string sglang_flags(const ResultRow& row) {
  const std::string command = sglang_command(deployed(row));
  return command.substr(command.find("\\\n") + 2);
}

}  // namespace

TEST_CASE("Helix is decode context parallelism inside SGLang's tensor parallelism") {
  ResultRow row =
      predicted_row(Strategy::helix, {.kvp = 8, .tpa = 1, .tpf = 2, .ep = 4, .pp = 1, .dp = 1}, 8e3, 4);
  row.id = "the-id";
  row.config.shape.context = 65536;
  CHECK(sglang_command(deployed(row)) ==
        "# the-id\n"
        "# deepseek-r1: helix on 8 GPUs, KVP 8 TPA 1 > TPF 2 EP 4\n"
        "# predicted with gb200: 125 tokens/s/user, 62.5 tokens/s/GPU, 4 requests of 65536 tokens\n"
        "# weights are nvfp4: serve a checkpoint of this precision\n"
        "# Tokens go round the ranks one by one: figures above have blocks of 32 tokens.\n"
        "python3 -m sglang.launch_server --model-path \"${MODEL:?path or name of the checkpoint}\" \\\n"
        "  --tp-size 8 \\\n"
        "  --dcp-size 8 \\\n"
        "  --dcp-comm-backend a2a \\\n"
        "  --ep-size 4 \\\n"
        "  --kv-cache-dtype fp8_e4m3 \\\n"
        "  --context-length 65536 \\\n"
        "  --max-running-requests 4\n");
}

TEST_CASE("SGLang's tensor parallelism counts the ranks of all data-parallel groups of attention") {
  CHECK(sglang_flags(
            predicted_row(Strategy::dp_ep, {.kvp = 1, .tpa = 1, .tpf = 1, .ep = 16, .pp = 1, .dp = 16})) ==
        "  --tp-size 16 \\\n"
        "  --dp-size 16 \\\n"
        "  --enable-dp-attention \\\n"
        "  --ep-size 16 \\\n"
        "  --kv-cache-dtype fp8_e4m3 \\\n"
        "  --context-length 1048576 \\\n"
        "  --max-running-requests 64\n");
  CHECK_THAT(
      sglang_flags(predicted_row(Strategy::helix, {.kvp = 4, .tpa = 1, .tpf = 8, .ep = 1, .pp = 2, .dp = 2})),
      Catch::Contains("--tp-size 8 ") && Catch::Contains("--dcp-size 4 ") &&
          Catch::Contains("--dp-size 2 ") && Catch::Contains("--pp-size 2 ") &&
          !Catch::Contains("--ep-size"));
}

TEST_CASE("SGLang balances copies of experts; where values are made is no flag of its own") {
  ResultRow row = predicted_row(Strategy::dp_ep, {.kvp = 1, .tpa = 1, .tpf = 1, .ep = 16, .pp = 1, .dp = 16});
  row.config.shape.redundant_experts = 32;
  CHECK_THAT(sglang_flags(row),
             Catch::Contains("  --enable-eplb \\\n") && Catch::Contains("--ep-num-redundant-experts 32 "));
  row.config.shape.exchange.projection = CacheExchange::Projection::before_merge;
  CHECK_THAT(sglang_command(deployed(row)), Catch::Contains("SGLang has no flag for it"));
}

TEST_CASE("what SGLang has no layout for is refused, what its flags cannot say stands in comments") {
  const auto refusal = [](const ResultRow& row) {
    return usage_error([&] { sglang_command(deployed(row)); });
  };
  CHECK_THAT(
      refusal(predicted_row(Strategy::medha, {.kvp = 4, .tpa = 1, .tpf = 1, .ep = 1, .pp = 1, .dp = 1})),
      Catch::Contains("SGLang") && Catch::Contains("medha"));
  ResultRow gqa = predicted_row(Strategy::helix, {.kvp = 2, .tpa = 4, .tpf = 8, .ep = 1, .pp = 1, .dp = 1});
  gqa.config.model = "llama-3.1-405b";
  CHECK_THAT(refusal(gqa), Catch::Contains("TPA 4") && Catch::Contains("TPA = 8"));
  gqa.config.sharding = {.kvp = 2, .tpa = 8, .tpf = 16, .ep = 1, .pp = 1, .dp = 1};
  gqa.config.shape.kv_dtype = DType::nvfp4;
  gqa.config.shape.hop_b = 4;
  CHECK_THAT(sglang_command(deployed(gqa)),
             Catch::Contains("GQA") && Catch::Contains("--kv-cache-dtype fp4_e2m1") &&
                 Catch::Contains("experimental") && Catch::Contains("# HOP-B is not in SGLang") &&
                 Catch::Contains("max_position_embeddings = 131072"));
}

TEST_CASE("SGLang counts a step's own token among the drafted ones") {
  ResultRow row = predicted_row(Strategy::helix, {.kvp = 8, .tpf = 8}, 8e3, 4);
  row.config.shape.draft_tokens = 3;
  CHECK_THAT(sglang_flags(row), Catch::Contains("  --speculative-algorithm EAGLE \\\n"
                                                "  --speculative-num-steps 3 \\\n"
                                                "  --speculative-eagle-topk 1 \\\n"
                                                "  --speculative-num-draft-tokens 4 \\\n"));
  row.config.draft_head = "eagle3";
  DeployedPoint point = deployed(row);
  point.draft_file = "/drafts/eagle3/config.json";
  CHECK_THAT(sglang_command(point),
             Catch::Contains("  --speculative-algorithm EAGLE3 \\\n"
                             "  --speculative-draft-model-path \"${DRAFT_MODEL:-/drafts/eagle3}\" \\\n"
                             "  --speculative-num-steps 3 \\\n"));
}
