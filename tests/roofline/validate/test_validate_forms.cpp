#include <catch2/catch.hpp>
#include <sstream>

#include "roofline/base/error.hpp"
#include "roofline/validate/validate.hpp"

using namespace helix;

namespace {

Validation judged(const std::string& csv) {
  std::istringstream in(csv);
  return validate(in, "x.csv");
}

const std::string line_header =
    "model,weight_dtype,kv_dtype,system,gpus,engine,context_tokens,batch,metric,value\n";

}  // namespace

TEST_CASE("Sparse-attention modules are judged by model and kernel, with and without the indexer") {
  const std::string header =
      "op_name,device,kernel_source,model,kv_cache_dtype,gemm_type,num_heads,batch_size,context_tokens,"
      "latency_us\n";
  const auto model_us = [&](const std::string& op, const std::string& kernel, int tokens) {
    const Validation v = judged(header + op + ",b200," + kernel + ",zai-org/GLM-5-FP8,fp8,fp8_block,16,1," +
                                std::to_string(tokens) + ",50\n");
    REQUIRE(v.families.size() == 1);
    CHECK(v.families[0].family == "zai-org/GLM-5-FP8/" + kernel);
    return v.residuals[0].model_us;
  };
  const std::string module = "dsa_generation_module";
  const double with = model_us(module, "sglang_dsa_indexer_trtllm", 131072);
  const double without = model_us(module + "_skip_indexer", "sglang_dsa_skip_indexer_trtllm", 131072);
  CHECK(with > without + 30);
  CHECK(model_us(module + "_skip_indexer", "sglang_dsa_skip_indexer_trtllm", 1 << 20) == without);

  const Validation unknown =
      judged(header + module + ",b200,other_kernel,zai-org/GLM-5,fp8,fp8_block,16,1,4096,50\n" + module +
             ",b200,sglang_dsa_indexer_trtllm,some/Model,fp8,fp8_block,16,1,4096,50\n");
  CHECK(unknown.families.empty());
  CHECK(unknown.left_out.size() == 2);
}

TEST_CASE("Published lines are judged by slope and intercept, a median by its mean context") {
  const std::string model = "meta-llama/Llama-3.1-8B,bf16,bf16,H100 SXM,1,vllm 0.19.1,";
  const Validation v =
      judged(line_header + model + "256..125K (linear fit),1,itl slope,4e-05\n" + model +
             "256..125K (linear fit),1,itl intercept,6\n" + model + "20K in / 2K out,8,itl median,15\n" +
             model + "20K in / 2K out,8,output tok/s,450\n");
  REQUIRE(v.families.size() == 3);
  CHECK(v.families[2].family == "meta-llama/Llama-3.1-8B/H100 SXM/itl slope");
  CHECK(v.left_out.size() == 1);
  const double slope = v.residuals[0].model_us, intercept = v.residuals[1].model_us;
  // One request more of 21K tokens costs its slope; eight take less than eight times one.
  const double median = v.residuals[2].model_us;
  CHECK(median > intercept + 7 * 21504 * slope);
  CHECK(median < intercept + 9 * 21504 * slope);
}

TEST_CASE("A latency without its contexts is refused with the valid forms") {
  using Catch::Contains;
  CHECK_THROWS_WITH(judged(line_header + "llama-3.1-8b,bf16,bf16,h100,1,vllm,long,1,itl slope,4e-05\n"),
                    Contains("x.csv:2") && Contains("256..125K"));
}
