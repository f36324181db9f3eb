#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <string>
#include <vector>

#include "sweeps/export/deployed.hpp"
#include "sweeps/export/trtllm_config.hpp"
#include "sweeps/request/enumerate.hpp"
#include "tests/scratch_folder.hpp"
#include "tests/usage_error.hpp"

using namespace helix;

namespace {

SweepSpace trtllm(const std::string& text) {
  SweepSpace space;
  parse_trtllm_config(text, "trt.yaml", space);
  return space;
}

/// Of a sweep of the configuration for the row's model.
std::vector<SweepPoint> points_of(const std::string& config, const ResultRow& row, ModelTable& models) {
  SweepSpace space = trtllm(config);
  space.models = {row.config.model};
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

TEST_CASE("slots of experts beyond one for each are their copies") {
  ResultRow row = predicted_row(Strategy::dp_ep, {.kvp = 1, .tpa = 1, .tpf = 1, .ep = 16, .pp = 1, .dp = 16});
  row.config.shape.redundant_experts = 32;
  const std::string config = trtllm_config(deployed(row));
  CHECK_THAT(config, Catch::Contains("moe_config:\n  load_balancer:\n    num_slots: 288\n"));
  ModelTable models;
  const std::vector<SweepPoint> points = points_of(config, row, models);
  REQUIRE(points.size() == 1);
  CHECK(points[0].config.shape.redundant_experts == 32);
  CHECK_THAT(usage_error([&] {
               std::string few = config;
               few.replace(few.find("288"), 3, "128");
               points_of(few, row, models);
             }),
             Catch::Contains("num_slots 128") && Catch::Contains("256 experts"));
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
  const std::string config = trtllm_config(deployed(row));
  CAPTURE(row.id, config);
  ModelTable models;
  const std::vector<SweepPoint> points = points_of(config, row, models);
  REQUIRE(points.size() == 1);
  CHECK(points[0].skip_reason.empty());
  CHECK(points[0].config.strategy == strategy);
  CHECK(points[0].config.sharding == sharding);
  CHECK(points[0].config.shape.tokens_per_block == 64);
  CHECK(points[0].config.shape.batch == row.config.shape.batch);
  CHECK(points[0].config.shape.context == row.config.shape.context);
  CHECK(points[0].config.shape.kv_dtype == DType::fp8);
}

TEST_CASE("a TensorRT-LLM configuration says what TensorRT-LLM reads and comments on the rest") {
  ResultRow row =
      predicted_row(Strategy::helix, {.kvp = 8, .tpa = 2, .tpf = 16, .ep = 1, .pp = 1, .dp = 1}, 8e3, 4);
  row.config.model = "llama-3.1-405b";
  row.config.shape.hop_b = 4;
  row.id = "the-id";
  CHECK(trtllm_config(deployed(row)) ==
        "# the-id\n"
        "# llama-3.1-405b: helix on 16 GPUs, KVP 8 TPA 2 > TPF 16 EP 1 HOP-B 4\n"
        "# predicted with gb200: 125 tokens/s/user, 31.25 tokens/s/GPU, 4 requests of 1048576 tokens\n"
        "# weights are nvfp4: serve a checkpoint of this precision\n"
        "# Helix is for generation servers of a disaggregated deployment.\n"
        "# Where all GPUs share NVLink, cp_config.use_nccl_for_alltoall: false is faster.\n"
        "# HOP-B is not in TensorRT-LLM: the figures above have 4 pieces, expect those of hop_b = 1.\n"
        "# 1048576 tokens exceed the model's max_position_embeddings = 131072: max_seq_len alone does not "
        "scale RoPE, the checkpoint has to.\n"
        "# helix-bench: weight-dtype nvfp4\n"
        "# helix-bench: hop-b 4\n"
        "tensor_parallel_size: 2\n"
        "context_parallel_size: 8\n"
        "pipeline_parallel_size: 1\n"
        "cp_config:\n"
        "  cp_type: HELIX\n"
        "  tokens_per_block: 32\n"
        "kv_cache_config:\n"
        "  tokens_per_block: 32\n"
        "  dtype: fp8\n"
        "max_batch_size: 4\n"
        "max_seq_len: 1048576\n");
}

namespace {

std::vector<std::int64_t> only(std::int64_t value) {
  return {value};
}

std::string refusal_of(const std::string& text) {
  return usage_error([&] { trtllm(text); });
}

}  // namespace

TEST_CASE("experts are in MoE tensor parallelism unless the file says otherwise") {
  const std::string helix =
      "tensor_parallel_size: 2\ncontext_parallel_size: 4\ncp_config: {cp_type: helix}\n";
  CHECK(trtllm(helix).ep.values == only(1));  // and TPF = 8 ranks
  CHECK(trtllm(helix + "moe_tensor_parallel_size: 2").ep.values == only(4));
  CHECK(trtllm(helix + "moe_expert_parallel_size: 8").ep.values == only(8));
  CHECK(trtllm(helix + "moe_expert_parallel_size: 4\nmoe_tensor_parallel_size: 2").ep.values == only(4));
  CHECK(trtllm(helix + "moe_expert_parallel_size: -1\nmoe_tensor_parallel_size: null").ep.values == only(1));
  CHECK_THAT(refusal_of(helix + "moe_expert_parallel_size: 4\nmoe_tensor_parallel_size: 4"),
             Catch::Contains("(4) x moe_expert_parallel_size (4)") && Catch::Contains("= 8"));
  CHECK_THAT(refusal_of(helix + "moe_expert_parallel_size: 3"),
             Catch::Contains("(missing) x moe_expert_parallel_size (3)"));
  CHECK_THAT(refusal_of(helix + "moe_tensor_parallel_size: 16"), Catch::Contains("(16)"));
  CHECK_THAT(refusal_of(helix + "moe_cluster_parallel_size: 2"),
             Catch::Contains("moe_cluster_parallel_size"));
}

TEST_CASE("widths that are not named are 1, and a context parallelism of 1 is plain tensor parallelism") {
  const SweepSpace nothing = trtllm("{max_batch_size: 3}");
  CHECK(nothing.strategies == std::vector<Strategy>{Strategy::tp});
  CHECK(nothing.tpa.values == only(1));
  CHECK(nothing.batches.values == only(3));
  const SweepSpace plain =
      trtllm("tensor_parallel_size: 8\ncontext_parallel_size: 1\ncp_config: {cp_type: HELIX}");
  CHECK(plain.strategies == std::vector<Strategy>{Strategy::tp});
  CHECK(plain.kvp.values == only(1));
  CHECK(plain.tpa.values == only(8));
  const SweepSpace helix = trtllm("context_parallel_size: 4\ncp_config: {cp_type: HELIX}\nkv_cache_config:");
  CHECK(helix.strategies == std::vector<Strategy>{Strategy::helix});
  CHECK(helix.tpa.values == only(1));
  const SweepSpace null_sections = trtllm("tensor_parallel_size: 4\ncp_config: null\nkv_cache_config: ~");
  CHECK(null_sections.strategies == std::vector<Strategy>{Strategy::tp});
  CHECK(null_sections.tokens_per_block == 32);
}

TEST_CASE("max_batch_size counts a rank's micro-batch, max_seq_len is the context") {
  const SweepSpace space = trtllm(
      "tensor_parallel_size: 8\nenable_attention_dp: true\nmoe_expert_parallel_size: 8\n"
      "pipeline_parallel_size: 2\nmax_batch_size: 16\nmax_seq_len: 131072");
  CHECK(space.batches.values == only(256));
  CHECK(space.contexts.values == only(131072));
  CHECK(space.dp.values == only(8));
  CHECK(space.tpa.values == only(1));
  CHECK(space.pp.values == only(2));
}

TEST_CASE("of a disaggregated deployment the generation servers are read") {
  const std::string common =
      "hostname: localhost\nport: 8000\nbackend: pytorch\n"
      "context_servers: {num_instances: 1, tensor_parallel_size: 4, urls: ['a:1']}\n";
  SweepSpace space;
  CHECK(parse_trtllm_config(common + "max_seq_len: 65536\n"
                                     "generation_servers:\n  num_instances: 2\n  urls: ['b:1', 'b:2']\n"
                                     "  context_parallel_size: 8\n  cp_config: {cp_type: HELIX}\n",
                            "disagg.yaml", space) == std::vector<std::string>{"num_instances", "backend"});
  CHECK(space.strategies == std::vector<Strategy>{Strategy::helix});
  CHECK(space.kvp.values == only(8));
  CHECK(space.tpa.values == only(1));
  CHECK(space.contexts.values == only(65536));
  CHECK_THAT(refusal_of(common), Catch::Contains("generation_servers is missing"));
  CHECK_THAT(refusal_of(common + "max_batch_size: 4\ngeneration_servers: {max_batch_size: 8}"),
             Catch::Contains("max_batch_size") && Catch::Contains("different"));
  const SweepSpace slurm = trtllm(
      "slurm: {partition: x}\nworker_config:\n  ctx: {tensor_parallel_size: 2}\n"
      "  gen: {tensor_parallel_size: 16, pipeline_parallel_size: 2}");
  CHECK(slurm.strategies == std::vector<Strategy>{Strategy::tp_pp});
  CHECK(slurm.tpa.values == only(16));
  CHECK_THAT(refusal_of("worker_config: {ctx: {}}"), Catch::Contains("worker_config.gen is missing"));
}

TEST_CASE("keys that change the answer are used, refused or named as not used") {
  SweepSpace space;
  CHECK(parse_trtllm_config("tensor_parallel_size: 2\nspeculative_config: {decoding_type: MTP}\n"
                            "cp_config: {cp_type: HELIX, use_nccl_for_alltoall: false, block_size: 8}\n"
                            "kv_cache_config: {free_gpu_memory_fraction: 0.8, max_tokens: 9, dtype: fp8}",
                            "t.yaml", space) ==
        std::vector<std::string>{"speculative_config", "cp_config.block_size",
                                 "kv_cache_config.free_gpu_memory_fraction", "kv_cache_config.max_tokens"});
  CHECK(parse_trtllm_config(
            "speculative_config: {decoding_type: MTP, num_nextn_predict_layers: 2, relaxed_topk: 5}",
            "t.yaml", space) == std::vector<std::string>{"speculative_config.relaxed_topk"});
  CHECK(space.draft_tokens == std::vector<std::int64_t>{2});
  CHECK(parse_trtllm_config("speculative_config: {decoding_type: Eagle, max_draft_len: 4}", "t.yaml",
                            space) == std::vector<std::string>{"speculative_config"});
  CHECK(space.draft_tokens == std::vector<std::int64_t>{2});
  CHECK_THAT(refusal_of("cp_config: {cp_type: HELIX, token_per_block: 64}"),
             Catch::Contains("'token_per_block'") && Catch::Contains("tokens_per_block"));
  CHECK_THAT(refusal_of("enable_attention_dp: yes please"),
             Catch::Contains("enable_attention_dp is 'yes please'") && Catch::Contains("true and false"));
  CHECK_THAT(refusal_of("cp_config: {cp_type: HELIX, use_nccl_for_alltoall: 2}"),
             Catch::Contains("cp_config.use_nccl_for_alltoall"));
  CHECK_THAT(refusal_of("tensor_parallel_size: [1, 2]"), Catch::Contains("tensor_parallel_size"));
  CHECK_THAT(refusal_of("max_batch_size: 0"), Catch::Contains("max_batch_size"));
}

TEST_CASE("TensorRT-LLM's draft layers attend locally under Helix") {
  const std::string drafts = "speculative_config: {decoding_type: MTP, max_draft_len: 2}\n";
  CHECK(trtllm(drafts + "tensor_parallel_size: 8").draft_kv == DraftKv::sharded);  // nothing to exchange
  CHECK(trtllm(drafts + "context_parallel_size: 8\ncp_config: {cp_type: HELIX}").draft_kv == DraftKv::local);

  ResultRow row = predicted_row(Strategy::helix, {.kvp = 8, .tpf = 4, .ep = 2});
  row.config.model = "deepseek-r1";
  row.config.shape.draft_tokens = 3;
  for (const DraftKv draft_kv : {DraftKv::sharded, DraftKv::local}) {
    row.config.shape.draft_kv = draft_kv;
    row.id = configuration_id(row.config);
    const std::string text = trtllm_config(deployed(row));
    CAPTURE(text);
    CHECK((text.find("have sharded drafts: TensorRT-LLM's draft layer attends to what each GPU holds") !=
           text.npos) == (draft_kv == DraftKv::sharded));
    CHECK(trtllm(text).draft_kv == draft_kv);
  }
}

TEST_CASE("an Eagle-3 head is TensorRT-LLM's speculative_model") {
  const ScratchFolder scratch;
  const std::string folder = scratch.write("config.json", "{}").parent_path().string();
  SweepSpace space;
  const auto read = [&](const std::string& model) {
    return parse_trtllm_config(
        fmt::format(
            "context_parallel_size: 8\ncp_config: {{cp_type: HELIX}}\nspeculative_config: {{decoding_type: "
            "Eagle3, eagle3_one_model: true, max_draft_len: 3, speculative_model: {}}}",
            model),
        "t.yaml", space);
  };
  CHECK(read("a/checkpoint/that-is-elsewhere") ==
        std::vector<std::string>{"speculative_config.speculative_model"});
  CHECK((space.draft_model.empty() && space.draft_tokens == std::vector<std::int64_t>{3}));
  CHECK(read(folder).empty());
  CHECK((space.draft_model == folder + "/config.json" && space.draft_kv == DraftKv::local));

  ResultRow row = predicted_row(Strategy::helix, {.kvp = 8, .tpf = 4, .ep = 2});
  row.config.model = "deepseek-r1";
  row.config.shape.draft_tokens = 3;
  row.config.shape.draft_kv = DraftKv::local;
  row.config.draft_head = "eagle3";
  DeployedPoint point = deployed(row);
  CHECK_THAT(trtllm_config(point), Catch::Contains("has to name the checkpoint of eagle3") &&
                                       !Catch::Contains("speculative_model:"));
  point.draft_file = folder + "/config.json";
  const std::string text = trtllm_config(point);
  CHECK_THAT(text, Catch::Contains("speculative_config:\n  decoding_type: Eagle3\n  eagle3_one_model: true\n"
                                   "  max_draft_len: 3\n  speculative_model: " +
                                   folder));
  const SweepSpace back = trtllm(text);
  CHECK((back.draft_model == point.draft_file && back.draft_kv == DraftKv::local));
  CHECK(back.draft_tokens == std::vector<std::int64_t>{3});
}

TEST_CASE("TensorRT-LLM's batch is that of a pipeline's micro-batch") {
  ResultRow row = predicted_row(Strategy::tp_pp, {.kvp = 1, .tpa = 4, .tpf = 4, .ep = 1, .pp = 4, .dp = 1});
  CHECK_THAT(trtllm_config(deployed(row)), Catch::Contains("max_batch_size: 16\n"));
  row.config.shape.batch = 66;  // two of the micro-batches have 17
  CHECK_THAT(trtllm_config(deployed(row)), Catch::Contains("max_batch_size: 17\n"));
  row.config.shape.kv_dtype = DType::nvfp4;
  CHECK_THAT(usage_error([&] { trtllm_config(deployed(row)); }), Catch::Contains("KV cache for MLA"));
}

TEST_CASE("what TensorRT-LLM has no layout for is refused with its widths") {
  const auto refusal = [](Strategy strategy, const Sharding& sharding) {
    return usage_error([&] { trtllm_config(deployed(predicted_row(strategy, sharding))); });
  };
  CHECK_THAT(refusal(Strategy::medha, {.kvp = 4, .tpa = 1, .tpf = 1, .ep = 1, .pp = 1, .dp = 1}),
             Catch::Contains("medha") && Catch::Contains("TensorRT-LLM"));
  CHECK_THAT(refusal(Strategy::dcp, {.kvp = 8, .tpf = 8}),
             Catch::Contains("dcp") && Catch::Contains("helix"));
  CHECK_THAT(refusal(Strategy::helix, {.kvp = 2, .tpa = 2, .tpf = 8, .ep = 1, .pp = 1, .dp = 2}),
             Catch::Contains("DP 2") && Catch::Contains("TPA 2"));
  CHECK_THAT(usage_error([] { trtllm("tensor_parallel_size: 2\nkv_cache_config: {dtype: int8}"); }),
             Catch::Contains("'int8'") && Catch::Contains("nvfp4"));
}

TEST_CASE("what no key of TensorRT-LLM says comes back from a comment") {
  ResultRow row = predicted_row(Strategy::helix, {.kvp = 8, .tpa = 1, .tpf = 4, .ep = 2});
  row.config.precision_source = "flag";
  row.config.shape.kv_dtype = DType::bf16;  // the model's own type: the key says auto
  row.config.shape.hop_b = 4;
  const std::string text = trtllm_config(deployed(row));
  CHECK_THAT(text, Catch::Contains("# helix-bench: weight-dtype nvfp4\n# helix-bench: hop-b 4\n"));
  row.id = configuration_id(row.config);
  ModelTable models;
  const std::vector<SweepPoint> points = points_of(text, row, models);
  REQUIRE(points.size() == 1);
  CHECK(configuration_id(points[0].config) == row.id);
  row.config.precision_source = "file";
  CHECK_THAT(trtllm_config(deployed(row)), !Catch::Contains("weight-dtype"));
  row.config.shape.hop_b = 1;
  row.config.shape.draft_tokens = 3;
  row.config.shape.acceptance = 2.5;
  row.id = configuration_id(row.config);
  for (const char* model : {"deepseek-r1", "qwen3-235b-a22b"}) {  // with and without a draft layer
    row.config.model = model;
    row.config.precision_source = "flag";
    row.id = configuration_id(row.config);
    const std::string drafted = trtllm_config(deployed(row));
    const bool itself = row.config.model == "deepseek-r1";
    CAPTURE(drafted);
    CHECK((drafted.find("speculative_config:\n  decoding_type: MTP\n  max_draft_len: 3\n") != drafted.npos) ==
          itself);
    CHECK((drafted.find("TensorRT-LLM has to be told which model makes them") != drafted.npos) != itself);
    SweepSpace space;
    parse_trtllm_config(drafted, "t.yaml", space);
    CHECK(space.draft_tokens == std::vector<std::int64_t>{3});
    CHECK(space.acceptances == std::vector<double>{2.5});
    CHECK(space.draft_kv == DraftKv::sharded);
  }
  CHECK_THAT(refusal_of("# helix-bench: colour red\ntensor_parallel_size: 2"), Catch::Contains("colour red"));
  CHECK_THAT(refusal_of("# helix-bench: weight-dtype red\ntensor_parallel_size: 2"),
             Catch::Contains("# helix-bench: weight-dtype") && Catch::Contains("red"));
}
