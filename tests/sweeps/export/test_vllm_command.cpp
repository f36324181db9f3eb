#include <catch2/catch.hpp>

#include "sweeps/export/deployed.hpp"
#include "sweeps/export/vllm_command.hpp"
#include "tests/usage_error.hpp"

using namespace helix;

namespace {

std::string refusal(const ResultRow& row) {
  return usage_error([&] { vllm_command(deployed(row)); });
}

std::string vllm_flags(const ResultRow& row) {
  const std::string command = vllm_command(deployed(row));
  return command.substr(command.find("\\\n") + 2);
}

}  // namespace

TEST_CASE("Helix is decode context parallelism inside vLLM's tensor parallelism") {
  ResultRow row =
      predicted_row(Strategy::helix, {.kvp = 8, .tpa = 1, .tpf = 8, .ep = 1, .pp = 1, .dp = 1}, 8e3, 4);
  row.id = "the-id";
  CHECK(vllm_command(deployed(row)) ==
        "# the-id\n"
        "# deepseek-r1: helix on 8 GPUs, KVP 8 TPA 1 > TPF 8 EP 1\n"
        "# predicted with gb200: 125 tokens/s/user, 62.5 tokens/s/GPU, 4 requests of 1048576 tokens\n"
        "# weights are nvfp4: serve a checkpoint of this precision\n"
        "# 1048576 tokens exceed the model's max_position_embeddings = 163840: vLLM takes it with "
        "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 or a rope_scaling in --hf-overrides.\n"
        "# Blocks and interleaving are the backend's: figures above have blocks of 32 tokens.\n"
        "vllm serve \"${MODEL:?path or name of the checkpoint}\" \\\n"
        "  --tensor-parallel-size 8 \\\n"
        "  --decode-context-parallel-size 8 \\\n"
        "  --dcp-comm-backend a2a \\\n"
        "  --kv-cache-dtype fp8 \\\n"
        "  --max-model-len 1048576 \\\n"
        "  --max-num-seqs 4\n");
}

TEST_CASE("the other strategies have the flags of their kind of parallelism") {
  CHECK(
      vllm_flags(predicted_row(Strategy::tp_pp, {.kvp = 1, .tpa = 8, .tpf = 8, .ep = 1, .pp = 2, .dp = 1})) ==
      "  --tensor-parallel-size 8 \\\n"
      "  --pipeline-parallel-size 2 \\\n"
      "  --kv-cache-dtype fp8 \\\n"
      "  --max-model-len 1048576 \\\n"
      "  --max-num-seqs 64\n");
  CHECK(vllm_flags(
            predicted_row(Strategy::dp_ep, {.kvp = 1, .tpa = 1, .tpf = 1, .ep = 16, .pp = 1, .dp = 16})) ==
        "  --tensor-parallel-size 1 \\\n"
        "  --data-parallel-size 16 \\\n"
        "  --enable-expert-parallel \\\n"
        "  --kv-cache-dtype fp8 \\\n"
        "  --max-model-len 1048576 \\\n"
        "  --max-num-seqs 4\n");
  CHECK_THAT(
      vllm_flags(predicted_row(Strategy::helix, {.kvp = 4, .tpa = 1, .tpf = 1, .ep = 32, .pp = 1, .dp = 8})),
      Catch::Contains("--tensor-parallel-size 4 ") && Catch::Contains("--data-parallel-size 8 ") &&
          Catch::Contains("--decode-context-parallel-size 4 "));
}

TEST_CASE("vLLM balances copies of experts") {
  ResultRow row = predicted_row(Strategy::dp_ep, {.kvp = 1, .tpa = 1, .tpf = 1, .ep = 16, .pp = 1, .dp = 16});
  row.config.shape.redundant_experts = 32;
  CHECK_THAT(vllm_flags(row), Catch::Contains("  --enable-eplb \\\n") &&
                                  Catch::Contains("--eplb-config '{\"num_redundant_experts\": 32}' "));
}

TEST_CASE("what vLLM has no layout for is refused with the widths that would do") {
  ResultRow gqa = predicted_row(Strategy::helix, {.kvp = 2, .tpa = 4, .tpf = 8, .ep = 1, .pp = 1, .dp = 1});
  gqa.config.model = "llama-3.1-405b";
  CHECK_THAT(refusal(gqa), Catch::Contains("TPA 4") && Catch::Contains("TPA = 8"));
  gqa.config.sharding = {.kvp = 2, .tpa = 8, .tpf = 16, .ep = 1, .pp = 1, .dp = 1};
  CHECK(vllm_flags(gqa) ==
        "  --tensor-parallel-size 16 \\\n"
        "  --decode-context-parallel-size 2 \\\n"
        "  --dcp-comm-backend a2a \\\n"
        "  --kv-cache-dtype fp8 \\\n"
        "  --block-size 32 \\\n"
        "  --cp-kv-cache-interleave-size 32 \\\n"
        "  --max-model-len 1048576 \\\n"
        "  --max-num-seqs 64\n");
  CHECK_THAT(
      refusal(predicted_row(Strategy::helix, {.kvp = 8, .tpa = 1, .tpf = 2, .ep = 4, .pp = 1, .dp = 1})),
      Catch::Contains("TPF 2 EP 4"));
  CHECK_THAT(
      refusal(predicted_row(Strategy::helix, {.kvp = 2, .tpa = 1, .tpf = 4, .ep = 1, .pp = 1, .dp = 2})),
      Catch::Contains("DP 2"));
  CHECK_THAT(
      refusal(predicted_row(Strategy::medha, {.kvp = 4, .tpa = 1, .tpf = 1, .ep = 1, .pp = 1, .dp = 1})),
      Catch::Contains("medha"));
}

TEST_CASE("vLLM's backends for MLA have their own blocks, one token a turn, and no 4-bit cache") {
  ResultRow row = predicted_row(Strategy::helix, {.kvp = 8, .tpa = 1, .tpf = 8, .ep = 1, .pp = 1, .dp = 1});
  row.config.shape.tokens_per_block = 64;
  CHECK_THAT(vllm_flags(row), !Catch::Contains("block-size") && !Catch::Contains("interleave"));
  for (const DType kv : {DType::nvfp4, DType::fp4}) {
    row.config.shape.kv_dtype = kv;
    CHECK_THAT(refusal(row), Catch::Contains("KV cache for MLA") && Catch::Contains("bf16 or fp8"));
  }
}

TEST_CASE("the context is always said, with a note where the model was made for less") {
  ResultRow row = predicted_row(Strategy::tp, {.kvp = 1, .tpa = 8, .tpf = 8, .ep = 1, .pp = 1, .dp = 1});
  row.config.shape.context = 163840;
  CHECK_THAT(vllm_command(deployed(row)),
             Catch::Contains("--max-model-len 163840 ") && !Catch::Contains("max_position_embeddings"));
  row.config.shape.context = 163841;
  CHECK_THAT(vllm_command(deployed(row)), Catch::Contains("--max-model-len 163841 ") &&
                                              Catch::Contains("max_position_embeddings = 163840"));
}

TEST_CASE("a model from a folder is served from that folder, unless MODEL names another") {
  DeployedPoint point =
      deployed(predicted_row(Strategy::tp, {.kvp = 1, .tpa = 8, .tpf = 8, .ep = 1, .pp = 1, .dp = 1}));
  point.checkpoint = "/ckpt/DeepSeek R1";
  CHECK_THAT(vllm_command(point), Catch::Contains("vllm serve \"${MODEL:-/ckpt/DeepSeek R1}\" "));
  point.checkpoint = "/ckpt/$(date)";
  CHECK_THAT(vllm_command(point), Catch::Contains("\"${MODEL:?path or name of the checkpoint}\""));
}

TEST_CASE("what vLLM's flags cannot say stands in comments") {
  ResultRow row = predicted_row(Strategy::helix, {.kvp = 2, .tpa = 2, .tpf = 4, .ep = 1, .pp = 1, .dp = 1});
  row.config.model = "somebody's-model";
  row.config.shape.hop_b = 8;
  row.config.shape.tokens_per_block = 5;
  row.config.shape.kv_dtype = DType::fp4;
  const std::string command = vllm_command(deployed(row));
  CHECK_THAT(command, Catch::Contains("# Decode context parallelism needs as many KV heads as TPA = 2"));
  CHECK_THAT(command, Catch::Contains("# HOP-B is not in vLLM") && Catch::Contains("8 pieces"));
  CHECK_THAT(command, Catch::Contains("blocks of 5 tokens") && !Catch::Contains("--block-size"));
  CHECK_THAT(command, Catch::Contains("--kv-cache-dtype nvfp4") && Catch::Contains("0.5625"));
  row.config.model = "llama-3.1-405b";
  row.config.sharding = {.kvp = 1, .tpa = 8, .tpf = 8, .ep = 1, .pp = 1, .dp = 1};
  CHECK_THAT(vllm_command(deployed(row)),
             Catch::Contains("# Blocks of 5 tokens: vLLM's are multiples of 16, its default stands."));
}

TEST_CASE("a point of dcp is served with the merge that it was predicted with") {
  ResultRow row = predicted_row(Strategy::dcp, {.kvp = 8, .tpf = 8});
  row.config.shape.exchange = {.queries = CacheExchange::Queries::gathered,
                               .merge = CacheExchange::Merge::ag_rs};
  CHECK_THAT(vllm_flags(row), Catch::Contains("--dcp-comm-backend ag_rs"));
  row.config.shape.exchange = {};
  CHECK_THAT(vllm_flags(row), Catch::Contains("--dcp-comm-backend a2a"));
}

TEST_CASE("drafts of the model's own layers are told to vLLM, others are its user's to name") {
  ResultRow row = predicted_row(Strategy::helix, {.kvp = 8, .tpf = 8}, 8e3, 4);
  row.config.shape.draft_tokens = 3;
  CHECK_THAT(vllm_flags(row),
             Catch::Contains(R"(--speculative-config '{"method": "mtp", "num_speculative_tokens": 3}' \)"));
  CHECK_THAT(vllm_command(deployed(row)), !Catch::Contains("draft-kv"));
  row.config.shape.draft_kv = DraftKv::local;
  CHECK_THAT(vllm_command(deployed(row)),
             Catch::Contains("local drafts: vLLM's draft layer attends as its other layers"));
  row.config.draft_head = "eagle3";
  CHECK_THAT(vllm_flags(row),
             Catch::Contains(
                 R"('{"method": "eagle3", "model": "'"${DRAFT_MODEL:?path or name of the draft head}"'", )"
                 R"("num_speculative_tokens": 3}' \)"));
  DeployedPoint kept = deployed(row);
  kept.draft_file = "/drafts/eagle3/config.json";
  CHECK_THAT(vllm_command(kept), Catch::Contains(R"("${DRAFT_MODEL:-/drafts/eagle3}")"));
  row.config.draft_head = "";
  row.config.model = "llama-3.1-405b";
  row.config.sharding = {.tpa = 8, .tpf = 8};
  CHECK_THAT(vllm_command(deployed(row)),
             Catch::Contains("check 3 drafted tokens a step: vLLM has to be told which model makes them") &&
                 !Catch::Contains("--speculative-config"));
}
