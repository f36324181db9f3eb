#include <catch2/catch.hpp>
#include <cmath>
#include <sstream>

#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_cost.hpp"
#include "roofline/system/system_spec.hpp"
#include "roofline/validate/benchmark_loop.hpp"
#include "roofline/validate/validate.hpp"

using namespace helix;

namespace {

const std::string gqa_header =
    "op,device,kv_dtype,batch,q_heads,kv_heads,head_dim,context_len_tokens,kv_bytes,slow_mmha_fallback,"
    "latency_us\n";

double gqa_us(const std::string& system_name, std::int64_t tokens) {
  const SystemSpec system = load_system(system_name);
  const AttentionShape s{
      .batch = 8, .q_heads = 64, .kv_heads = 8, .head_dim = 128, .v_dim = 128, .tokens = tokens};
  return benchmark_loop::gqa_us(system, gqa_kernel(system, s, DType::bf16), s,
                                8.0 * 2 * 8 * 128 * 2 * static_cast<double>(tokens));
}

std::string gqa_row(const std::string& device, std::int64_t tokens, double latency_us, bool slow = false) {
  std::ostringstream row;
  row.precision(17);
  row << "gqa_decode," << device << ",bfloat16,8,64,8,128," << tokens << ',' << 8 * 2 * 8 * 128 * 2 * tokens
      << ',' << slow << ',' << latency_us << '\n';
  return row.str();
}

Validation of(const std::string& csv) {
  std::istringstream in(csv);
  return validate(in, "x.csv");
}

}  // namespace

TEST_CASE("Errors are those of the model against the rows, in percent") {
  std::string csv = gqa_header;
  for (int i = 0; i < 11; ++i) csv += gqa_row("b200", 4096, gqa_us("b200", 4096) / (1 + 0.01 * i));
  csv += gqa_row("b200", 512, 1);  // below the decode regime
  const Validation v = of(csv);
  REQUIRE(v.families.size() == 1);
  CHECK(v.families[0].family == "gqa_decode");
  CHECK(v.families[0].rows == 11);
  CHECK(v.families[0].mdape == Approx(5));
  CHECK(v.families[0].mape == Approx(5));
  CHECK(v.families[0].p90 == Approx(9));
  CHECK(v.left_out.size() == 1);
}

TEST_CASE("Devices are found by their names, with suffixes and in any spelling") {
  for (const auto& [device, system] : {std::pair{"gb200_nvl72", "gb200"}, std::pair{"GB300-NVL72", "gb300"},
                                       std::pair{"b300_sxm", "b300"}, std::pair{"NVIDIA B200", "b200"}}) {
    const Validation v = of(gqa_header + gqa_row(device, 65536, gqa_us(system, 65536)));
    INFO(device);
    REQUIRE(v.families.size() == 1);
    CHECK(v.families[0].mape == Approx(0).margin(1e-9));
  }
}

TEST_CASE("Unusable measurement files are refused with the line") {
  using Catch::Contains;
  CHECK_THROWS_WITH(of(""), Contains("empty"));
  CHECK_THROWS_WITH(of("op,device,latency_us\nfrobnicate,b200,1\n"),
                    Contains("x.csv:2") && Contains("gqa_decode"));
  CHECK_THROWS_WITH(of("op,device,latency_us\ngemm,b200,1\n"), Contains("gemm_dtype"));
  CHECK_THROWS_WITH(of("op,device,latency_us\ngemm,a100,1\n"), Contains("gb200"));
  CHECK_THROWS_WITH(of(gqa_header + gqa_row("b200", 4096, 0)), Contains("latency_us"));
  CHECK_THROWS_AS(validate("no/such.csv"), UsageError);
}

TEST_CASE("What is resident in the L2 is never slower than the same from DRAM, its longer fixed time aside") {
  for (const char* name : {"b200", "h100"}) {
    const SystemSpec system = load_system(name);
    for (std::int64_t tokens : {1024, 8192, 65536, 1 << 20}) {
      const AttentionShape s{
          .batch = 1, .q_heads = 64, .kv_heads = 8, .head_dim = 128, .v_dim = 128, .tokens = tokens};
      const double bytes = 2.0 * 8 * 128 * 2 * static_cast<double>(tokens);
      const GpuGqa& kernel = gqa_kernel(system, s, DType::bf16);
      const KernelTerms cold = gqa_terms(system, kernel, s, bytes);
      const double warm_us = benchmark_loop::gqa_us(system, kernel, s, bytes);
      INFO(name << ' ' << tokens);
      CHECK(warm_us - kernel.loop.fixed_us <= cold.total_us() - cold.fixed_us);
    }
  }
}

TEST_CASE("Slow attention kernels are a family of their own") {
  const Validation v = of(gqa_header + gqa_row("h100", 4096, 1000, true));
  REQUIRE(v.families.size() == 1);
  CHECK(v.families[0].family == "gqa_decode_cuda_cores");
}

TEST_CASE("On Hopper one query head per KV head, and 48 and more, take the CUDA cores") {
  const SystemSpec h100 = load_system("h100");
  const auto unit = [&](std::int64_t q_heads) {
    return gqa_kernel(h100, {.batch = 1, .q_heads = q_heads, .kv_heads = 1, .head_dim = 128}, DType::fp8)
        .unit;
  };
  CHECK(unit(1) == GpuGqa::Unit::cuda_cores);
  CHECK(unit(2) == GpuGqa::Unit::tensor_cores);
  CHECK(unit(32) == GpuGqa::Unit::tensor_cores);
  CHECK(unit(48) == GpuGqa::Unit::cuda_cores);
}

TEST_CASE("A system that is given stands for every device, and each row's figures are kept") {
  const SystemSpec h100 = load_system("h100");
  std::istringstream in(gqa_header + gqa_row("whatever", 65536, gqa_us("h100", 65536) * 2));
  const Validation v = validate(in, "x.csv", &h100);
  REQUIRE(v.residuals.size() == 1);
  CHECK(v.residuals[0].line == 2);
  CHECK(v.residuals[0].model_us == Approx(gqa_us("h100", 65536)));
  CHECK(v.residuals[0].measured_us == Approx(2 * v.residuals[0].model_us));
}

TEST_CASE("Expert all-to-all is judged by phase and kernel; a longer message takes longer") {
  const std::string header =
      "op,device,kernel,dispatch_dtype,tokens_per_rank,hidden,topk,num_experts,ep_gpus,latency_us\n";
  const auto model_us = [&](const char* op, const char* dtype, int tokens, const char* device = "h100") {
    const Validation v = of(header + op + ',' + device + ",trtllm_deepep_ll," + dtype + ',' +
                            std::to_string(tokens) + ",7168,8,256,8,50\n");
    REQUIRE(v.families.size() == 1);
    CHECK(v.families[0].family == op + std::string("_trtllm_deepep_ll"));
    return v.residuals[0].model_us;
  };
  CHECK(model_us("moe_a2a_dispatch", "bfloat16", 256) > model_us("moe_a2a_dispatch", "bfloat16", 1));
  CHECK(model_us("moe_a2a_dispatch", "bfloat16", 256) > model_us("moe_a2a_dispatch", "fp8", 256));
  CHECK(model_us("moe_a2a_combine", "bfloat16", 256) == model_us("moe_a2a_combine", "fp8", 256));
  // Sums that are narrowed on their way take kernels more, whatever their number.
  const auto narrowing_us = [&](int tokens) {
    return model_us("moe_a2a_combine", "fp4", tokens, "b200") -
           model_us("moe_a2a_combine", "fp8", tokens, "b200");
  };
  CHECK(narrowing_us(1) > 5);
  CHECK(narrowing_us(256) == Approx(narrowing_us(1)));
}

TEST_CASE("Whole steps and served models are judged by model, device, engine and layout") {
  const Validation steps =
      of("model,device,engine,weight_dtype,kv_dtype,tp,pp,dp,moe_tp,moe_ep,batch_per_dp_rank,context_tokens,"
         "step_ms,"
         "layout\n"
         "deepseek-ai/DeepSeek-R1,h200,vllm 0.25.1,fp8_block,fp8,8,1,1,8,1,4,4096,30,pure_tp\n"
         "deepseek-ai/DeepSeek-R1,h200,vllm 0.25.1,fp8_block,fp8,1,1,8,1,8,4,4096,30,dep\n"
         "nvidia/DeepSeek-R1-NVFP4,h200,vllm,fp8_block,fp8,8,1,1,8,1,4,4096,30,pure_tp\n"
         "somebody/Something,h200,vllm,fp8_block,fp8,8,1,1,8,1,4,4096,30,pure_tp\n");
  REQUIRE(steps.families.size() == 3);
  CHECK(steps.families[2].family == "nvidia/DeepSeek-R1-NVFP4/h200/vllm/pure_tp");
  CHECK(steps.residuals[2].model_us == steps.residuals[0].model_us);
  CHECK(steps.families[0].family == "deepseek-ai/DeepSeek-R1/h200/vllm/dep");
  CHECK(steps.families[1].family == "deepseek-ai/DeepSeek-R1/h200/vllm/pure_tp");
  CHECK(steps.left_out.size() == 1);

  const auto only_us = [](const std::string& row) {
    const Validation v =
        of("model,device,engine,weight_dtype,kv_dtype,tp,pp,dp,moe_tp,moe_ep,batch_per_dp_rank,context_"
           "tokens,step_ms\n" +
           row + ",4,4096,30\n");
    return v.residuals.empty() ? 0 : v.residuals[0].model_us;
  };
  // Weights of the same shape have other names.
  CHECK(only_us("deepseek-ai/DeepSeek-R1-0528,h200,vllm 0.25.1,fp8_block,fp8,8,1,1,8,1") ==
        steps.residuals[0].model_us);
  CHECK(only_us("meta-llama/Meta-Llama-3.1-8B-Instruct-FP8,h200,vllm,fp8,fp8,1,1,1,1,1") > 0);
  CHECK(only_us("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B,h200,vllm,fp8,fp8,1,1,1,1,1") == 0);
  // Dense models have no experts to split, and replicas of them nothing in common.
  const double two_ranks = only_us("Qwen/Qwen3-32B,h200,vllm,fp8,fp8,2,1,1,2,1");
  CHECK(only_us("Qwen/Qwen3-32B,h200,vllm,fp8,fp8,2,1,1,1,1") == two_ranks);
  CHECK(only_us("Qwen/Qwen3-32B,h200,vllm,fp8,fp8,2,1,4,1,1") == two_ranks);
  // Four bits of gpt-oss are MXFP4, whatever the row calls them.
  CHECK(only_us("openai/gpt-oss-120b,b200,vllm,fp4,fp8,2,1,1,2,1") ==
        only_us("openai/gpt-oss-120b,b200,vllm,w4a8_mxfp4_mxfp8,fp8,2,1,1,2,1"));

  std::string rows =
      "model,device,engine,weight_dtype,kv_dtype,tp,moe_ep,batch_per_dp_rank,isl,osl,prefill_share,tpot_ms\n";
  rows += "llama-3.1-70b,h100,,fp8,fp8,4,1,4,1024,8192,0,12\n";
  rows += "llama-3.1-70b,h100,,fp8,fp8,4,1,4,1024,8192,0.5,12\n";
  const Validation served = of(rows);
  REQUIRE(served.families.size() == 1);
  CHECK(served.families[0].family == "llama-3.1-70b/h100/trtllm/tp/fp8");
  CHECK(served.residuals[1].model_us == Approx(2 * served.residuals[0].model_us));
}

TEST_CASE("Measured weights are those of the checkpoint that their type means") {
  const auto us = [](const std::string& model, const std::string& weights, const std::string& widths) {
    const Validation v =
        of("model,device,engine,weight_dtype,kv_dtype,tp,pp,dp,moe_tp,moe_ep,batch_per_dp_rank,context_"
           "tokens,step_ms,"
           "layout\n" +
           model + ",b200,vllm," + weights + ",fp8," + widths + ",4,4096,30,some\n");
    REQUIRE(v.residuals.size() == 1);
    return v.residuals[0].model_us;
  };
  const std::string tp8 = "8,1,1,8,1";
  // NVFP4 leaves attention's projections in 16 bits where there is a latent cache.
  CHECK(us("nvidia/DeepSeek-R1-NVFP4", "nvfp4", tp8) > 0.5 * us("deepseek-ai/DeepSeek-R1", "fp8_block", tp8));
  CHECK(us("zai-org/GLM-5.2-FP8", "fp8_block", tp8) > us("nvidia/GLM-5.2-NVFP4", "nvfp4", tp8));
  // Two groups of two ranks with requests of their own, whose latents each rank has.
  CHECK(us("deepseek-ai/DeepSeek-R1", "fp8_block", "2,1,4,1,8") > 0);
}
