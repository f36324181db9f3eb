#include <catch2/catch.hpp>

#include <memory>
#include <tuple>

#include "roofline/cost/gpu_cost.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/system/engine.hpp"

using namespace helix;

namespace {

Prediction step(Engine engine, std::int64_t batch, const Sharding& s = {.tpa = 4, .tpf = 4}) {
  SystemSpec h200 = load_system("h200");
  h200.engine = engine;
  const DecodeShape shape{
      .context = 1024, .batch = batch, .weight_dtype = DType::fp8, .kv_dtype = DType::fp8};
  return predict({load_model("minimax-m2.7"), s, shape}, h200);
}

}  // namespace

TEST_CASE("Graphs are captured for 1, 2, 4, then every 8 rows, from 256 on every 16") {
  for (const auto& [rows, graph] :
       {std::pair{1, 1}, {2, 2}, {3, 4}, {4, 4}, {5, 8}, {17, 24}, {256, 256}, {257, 272}})
    CHECK(graph_rows(rows) == graph);
}

TEST_CASE("vLLM computes a step's padding, TensorRT-LLM does not; neither attends for it") {
  const Prediction nine = step(Engine::vllm, 9), sixteen = step(Engine::vllm, 16);
  CHECK(nine.phases[Phase::ffn] == sixteen.phases[Phase::ffn]);
  CHECK(nine.phases[Phase::attn_allreduce] == sixteen.phases[Phase::attn_allreduce]);
  CHECK(nine.kv_bytes_per_rank < sixteen.kv_bytes_per_rank);
  CHECK(step(Engine::trtllm, 9).phases[Phase::ffn] < step(Engine::trtllm, 16).phases[Phase::ffn]);
}

TEST_CASE("Beyond the largest graph the host launches every kernel") {
  const Prediction captured = step(Engine::vllm, 512), launched = step(Engine::vllm, 513);
  CHECK(launched.model_ttl_us > 1.5 * captured.model_ttl_us);
  CHECK(launched.phases.total() == Approx(launched.model_ttl_us));
  CHECK(launched.bound == Bound::latency);
}

TEST_CASE("Engines that gather tokens for their experts send more than those that send each to its experts") {
  const Sharding dp_ep{.ep = 8, .dp = 8};
  const double gathered = step(Engine::vllm, 512, dp_ep).comm_bytes_per_rank;
  CHECK(gathered > step(Engine::none, 512, dp_ep).comm_bytes_per_rank);
}

TEST_CASE("vLLM's own kernels sum over ranks; all else that ranks exchange goes by NCCL") {
  SystemSpec b200 = load_system("b200");
  const CollectiveShape scattered{.op = Collective::reduce_scatter, .group = 8, .payload_bytes = 65536};
  const double one_shot = one_shot_us(b200, scattered), library = library_collective_us(b200, scattered);
  REQUIRE(one_shot < library);
  const auto beyond_kernel_us = [&](Engine engine, const CollectiveShape& shape, double kernel_us) {
    b200.engine = engine;
    return gpu_collective_time(b200, shape).total_us - kernel_us;
  };
  const double waits_us = beyond_kernel_us(Engine::vllm, scattered, library);
  CHECK(beyond_kernel_us(Engine::none, scattered, one_shot) == Approx(0).margin(1e-9));
  const CollectiveShape summed{.group = 8, .payload_bytes = 65536};
  CHECK(beyond_kernel_us(Engine::vllm, summed, one_shot_us(b200, summed)) == Approx(waits_us));
}

TEST_CASE("TP 8 and DCP 8 of vLLM cross between the requests that were published") {
  SystemSpec b200 = load_system("b200");
  b200.engine = Engine::vllm;
  const ModelSpec r1 = load_model("deepseek-r1");
  const auto dcp_gains = [&](std::int64_t context, std::int64_t batch) {
    DecodeShape shape{
        .context = context * 1024, .batch = batch, .weight_dtype = DType::fp8, .kv_dtype = DType::bf16};
    const double tp_us = predict({r1, {.tpa = 8, .tpf = 8}, shape}, b200).model_ttl_us;
    shape.exchange.queries = CacheExchange::Queries::gathered;
    return predict({r1, {.kvp = 8, .tpf = 8}, shape}, b200).model_ttl_us < tp_us;
  };
  for (const auto& [context, below, above] : {std::tuple{32, 8, 16}, {64, 4, 8}, {128, 2, 4}}) {
    CHECK_FALSE(dcp_gains(context, below));
    CHECK(dcp_gains(context, above));
  }
  CHECK(dcp_gains(256, 1));
}

TEST_CASE("Triton's experts serve only the engines that use them") {
  const Op experts{.shape = MoeShape{.tokens = 16,
                                     .hidden = 3072,
                                     .ffn = 768,
                                     .local_experts = 256,
                                     .top_k = 8,
                                     .active_experts = 100,
                                     .pairs = 128},
                   .dtype = DType::fp8,
                   .bytes = {.weights = 7e8}};
  SystemSpec h100 = load_system("h100");
  const double library_us = gpu_op_time(experts, h100).total_us;
  h100.engine = Engine::vllm;
  const double triton_us = gpu_op_time(experts, h100).total_us;
  CHECK(triton_us != library_us);
  h100.engine = Engine::trtllm;
  const double engine_us = gpu_op_time(experts, h100).total_us;
  CHECK(engine_us > library_us);  // the same kernels, with the engine's gaps
}

TEST_CASE("Sparse attention reads what was picked; its indexer walks every key") {
  const SystemSpec b200 = load_system("b200");
  const auto attention_us = [&](std::int64_t tokens) {
    const std::int64_t picked = std::min<std::int64_t>(tokens, 2048);
    const Op op{.shape = AttentionShape{.kind = AttentionKind::mla,
                                        .batch = 8,
                                        .q_heads = 16,
                                        .kv_heads = 1,
                                        .head_dim = 576,
                                        .v_dim = 512,
                                        .tokens = tokens,
                                        .picked = picked},
                .dtype = DType::fp8,
                .bytes = {.kv = 8.0 * static_cast<double>(picked) * 576}};
    return gpu_op_time(op, b200);
  };
  CHECK(attention_us(65536).total_us == attention_us(1 << 20).total_us);
  CHECK(attention_us(1024).total_us < attention_us(65536).total_us);
  CHECK_FALSE(attention_us(1 << 20).trust.extrapolated.context);
  CHECK(attention_us(1 << 21).trust.extrapolated.context);

  const auto indexer_us = [&](std::int64_t keys) {
    const Op op{.shape = IndexerShape{.batch = 1, .heads = 64, .head_dim = 128, .top_k = 2048, .keys = keys},
                .bytes = {.kv = 132.0 * static_cast<double>(keys)}};
    return gpu_op_time(op, b200).total_us;
  };
  CHECK(indexer_us(1 << 20) > 4 * indexer_us(1 << 16));
}

TEST_CASE("Under expert parallelism vLLM takes a library's kernels in the place of Triton's") {
  SystemSpec h100 = load_system("h100");
  h100.engine = Engine::vllm;
  const auto us = [&](std::int64_t experts) {
    return gpu_op_time({.shape = MoeShape{.tokens = 16,
                                          .hidden = 3072,
                                          .ffn = 1536,
                                          .local_experts = 64,
                                          .top_k = 8,
                                          .active_experts = 30,
                                          .pairs = 32,
                                          .experts = experts},
                        .dtype = DType::fp8,
                        .bytes = {.weights = 4e8}},
                       h100)
        .total_us;
  };
  CHECK(us(256) != us(64));
  h100.engine = Engine::sglang;
  CHECK(us(256) == us(64));
}

TEST_CASE("Experts in MXFP4 take kernels that were made for its scales") {
  SystemSpec b200 = load_system("b200");
  const Op experts{.shape = MoeShape{.tokens = 64,
                                     .hidden = 2880,
                                     .ffn = 2880,
                                     .local_experts = 128,
                                     .top_k = 4,
                                     .active_experts = 111,
                                     .pairs = 256},
                   .dtype = DType::mxfp4,
                   .bytes = {.weights = 1.5e9}};
  const double us = gpu_op_time(experts, b200).total_us;
  Op in_nvfp4 = experts;
  in_nvfp4.dtype = DType::nvfp4;
  REQUIRE(gpu_op_time(in_nvfp4, b200).total_us < us);
  auto others = std::make_shared<GpuKernels>(*b200.gpu);
  std::erase_if(others->moe, [](const GpuMoe& g) { return g.format == KernelFormat::nvfp4; });
  b200.gpu = others;
  CHECK(gpu_op_time(experts, b200).total_us == us);
}

TEST_CASE("Weights with a scale a block take kernels of their own") {
  const SystemSpec h100 = load_system("h100");
  Op product{
      .shape = GemmShape{.m = 128, .n = 4096, .k = 4096}, .dtype = DType::fp8, .bytes = {.weights = 1.7e7}};
  const double plain_us = gpu_op_time(product, h100).total_us;
  product.block_scaled = true;
  CHECK(gpu_op_time(product, h100).total_us > plain_us);
}

TEST_CASE(
    "With requests of its own each rank of vLLM and TensorRT-LLM has the whole head, of SGLang a part") {
  const Sharding dp_ep{.ep = 8, .dp = 8};
  const auto held = [&](Engine engine) { return step(engine, 64, dp_ep).weights_held_bytes_per_rank; };
  const ModelSpec m = load_model("minimax-m2.7");
  const double matrices =
      2.0 * static_cast<double>(m.vocab * m.hidden) * 7 / 8;  // embedding and head, seven parts more
  CHECK(held(Engine::vllm) - held(Engine::sglang) == Approx(matrices * 1.5).epsilon(0.01));  // 2 and 1 bytes
  CHECK(held(Engine::trtllm) == held(Engine::vllm));
  CHECK(held(Engine::none) == held(Engine::sglang));
}

TEST_CASE(
    "Groups of ranks with requests of their own sum attention among themselves where the engine gathers "
    "tokens") {
  const Sharding groups{.tpa = 2, .tpf = 1, .ep = 8, .dp = 4};
  const Prediction vllm = step(Engine::vllm, 64, groups);
  const Prediction none = step(Engine::none, 64, groups);
  CHECK(vllm.comm_bytes_per_rank < none.comm_bytes_per_rank);
  CHECK(vllm.exposed_comm_us > none.exposed_comm_us);  // more messages
}

TEST_CASE("Copies of experts are held, and read where tokens choose them") {
  SystemSpec b200 = load_system("b200");
  const auto predicted = [&](int copies, double skew) {
    const DecodeShape shape{.context = 8192,
                            .batch = 512,
                            .weight_dtype = DType::fp8,
                            .kv_dtype = DType::fp8,
                            .expert_skew = skew,
                            .redundant_experts = copies};
    const Sharding dp_ep{.ep = 8, .dp = 8};
    CHECK_FALSE(why_illegal(load_model("deepseek-r1"), Strategy::dp_ep, dp_ep, shape));
    return predict({load_model("deepseek-r1"), dp_ep, shape}, b200);
  };
  const Prediction one = predicted(0, 0.8), more = predicted(32, 0.8);
  const double expert_bytes = 3.0 * 7168 * 2048;
  CHECK(more.weights_held_bytes_per_rank - one.weights_held_bytes_per_rank == Approx(4 * 58 * expert_bytes));
  CHECK(more.max_batch < one.max_batch);
  CHECK(more.model_ttl_us < one.model_ttl_us);
  const DecodeShape seven{.context = 8192, .batch = 8, .redundant_experts = 7};
  CHECK(
      why_illegal(load_model("deepseek-r1"), Strategy::dp_ep, {.ep = 8, .dp = 8}, seven)->find("7 copies") !=
      std::string::npos);
  CHECK(why_illegal(load_model("deepseek-r1"), Strategy::tp, {.tpa = 8, .tpf = 8}, seven)->find("EP is 1") !=
        std::string::npos);
}
