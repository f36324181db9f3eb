// The precision of checkpoints, from quantization_config as their writers have it.
#include <catch2/catch.hpp>

#include "roofline/model/model_configs.hpp"
#include "roofline/model/module_pattern.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/step/memory.hpp"
#include "roofline/step/weight_request.hpp"

using namespace helix;
using Catch::Matchers::Contains;
using nlohmann::json;
using test::changed;
using test::complaint;
using test::parsed;

namespace {

ModelSpec with(const std::string& model, const json& quantization) {
  return parsed(changed(model, {{"quantization_config", quantization}}));
}

DecodeShape shape_of(const ModelSpec& model, const WeightRequest& request = {}) {
  DecodeShape shape{.context = 1024};
  request.apply(model, shape);
  return shape;
}

std::string parts(const ModelSpec& model, const WeightRequest& request = {}) {
  return precision_of_parts(model, shape_of(model, request));
}

/// Weight bytes that one GPU reads for a token of one request.
double bytes_read(const ModelSpec& model, const WeightRequest& request = {}) {
  double bytes = 0;
  for (const Op& op : decode_ops({model, {}, shape_of(model, request)})) bytes += op.bytes.weights * op.count;
  return bytes;
}

double bytes_held(const ModelSpec& model, const WeightRequest& request = {}) {
  return memory_model({model, {}, shape_of(model, request)}).weights;
}

const json block_fp8 = {
    {"quant_method", "fp8"}, {"weight_block_size", {128, 128}}, {"activation_scheme", "dynamic"}};

}  // namespace

TEST_CASE("a checkpoint without quantization_config is in bf16 throughout") {
  const ModelSpec model = parsed(test::built_in("llama-3.1-8b"));
  CHECK(parts(model) == "attention=bf16 ffn=bf16 embedding=bf16 head=bf16");
  CHECK_FALSE(shape_of(model).weights);
  CHECK(model.kv_dtype == DType::bf16);
  CHECK(bytes_read(model) == Approx(2 * 7.504e9).epsilon(0.001));  // 8.03e9 without the embedding
}

TEST_CASE("DeepSeek's fp8 has blocks with a scale, and embedding, router and head stay wide") {
  const ModelSpec model = with("deepseek-r1", block_fp8);
  CHECK(parts(model) == "attention=fp8 ffn=fp8 experts=fp8 shared=fp8 router=bf16 embedding=bf16 head=bf16");
  CHECK(model.weights[WeightPart::routed_experts].bytes == 1 + 4.0 / (128 * 128));
  // 671.03e9 parameters, 2 x 0.9268e9 of embedding and head and 0.106e9 of routers in bf16.
  CHECK(bytes_held(model) == Approx(673.1e9).epsilon(0.002));
  CHECK(model.kv_dtype == DType::bf16);
  json with_cache = block_fp8;
  with_cache["kv_cache_scheme"] = {{"num_bits", 8}, {"type", "float"}};
  CHECK(with("deepseek-r1", with_cache).kv_dtype == DType::fp8);
  with_cache["kv_cache_scheme"] = {{"num_bits", 4}, {"type", "int"}};
  CHECK_THAT(complaint("deepseek-r1", {{"quantization_config", with_cache}}), Contains("kv_cache_scheme"));
}

TEST_CASE("modules that a configuration names stay wide") {
  json fp8 = block_fp8;
  fp8["modules_to_not_convert"] = {"gate", "lm_head", "model.layers.0.mlp", "self_attn"};
  const ModelSpec model = with("qwen3-32b", fp8);
  CHECK(parts(model) == "attention=bf16 ffn=fp8 embedding=bf16 head=bf16");
  const double fp8_bytes = 1 + 4.0 / (128 * 128);
  CHECK(model.weights[WeightPart::dense_ffn].bytes == Approx((63 * fp8_bytes + 2) / 64));
}

TEST_CASE("MXFP4 of gpt-oss is in the routed experts alone") {
  for (const char* built_in : {"gpt-oss-20b", "gpt-oss-120b"})
    CHECK(load_model(built_in).weights[WeightPart::routed_experts].dtype == DType::mxfp4);
  const ModelSpec model = with(
      "gpt-oss-120b",
      {{"quant_method", "mxfp4"},
       {"modules_to_not_convert", {"model.layers.*.self_attn", "model.layers.*.mlp.router", "lm_head"}}});
  CHECK(parts(model) == "attention=bf16 experts=mxfp4 router=bf16 embedding=bf16 head=bf16");
  CHECK(model.weights[WeightPart::routed_experts].bytes == 0.53125);
  // gpt-oss-20b, of the same architecture: 3.7 GB for a token, where 4 bits everywhere would be 2.0.
  json small = changed("gpt-oss-120b", {{"num_hidden_layers", 24},
                                        {"num_local_experts", 32},
                                        {"layer_types", nullptr},
                                        {"quantization_config", {{"quant_method", "mxfp4"}}}});
  CHECK(bytes_read(parsed(small)) == Approx(3.7e9).epsilon(0.02));
  CHECK(bytes_read(parsed(small), DType::nvfp4) < 2.1e9);
}

TEST_CASE("compressed-tensors: groups of targets, expressions that leave modules out, scales of integers") {
  const json kimi = {
      {"quant_method", "compressed-tensors"},
      {"format", "pack-quantized"},
      {"config_groups",
       {{"group_0",
         {{"targets", {"Linear"}},
          {"weights",
           {{"num_bits", 4},
            {"type", "int"},
            {"strategy", "group"},
            {"group_size", 32},
            {"symmetric", true}}}}}}},
      {"ignore",
       {"lm_head", "re:.*self_attn.*", "re:.*shared_experts.*", "re:.*mlp\\.(gate|up|gate_up|down)_proj.*"}}};
  const ModelSpec model = with("kimi-k2", kimi);
  CHECK(parts(model) ==
        "attention=bf16 ffn=bf16 experts=int4 shared=bf16 router=bf16 embedding=bf16 head=bf16");
  CHECK(model.weights[WeightPart::routed_experts].bytes == 0.5 + 2.0 / 32);

  json mixed = kimi;
  mixed["ignore"] = {"lm_head"};
  mixed["config_groups"]["group_0"]["targets"] = {"re:.*experts.*"};
  mixed["config_groups"]["group_1"] = {
      {"targets", {"re:.*self_attn.*"}},
      {"weights", {{"num_bits", 8}, {"type", "float"}, {"strategy", "channel"}}}};
  mixed["kv_cache_scheme"] = {{"num_bits", 8}, {"type", "float"}};
  const ModelSpec second = with("kimi-k2", mixed);
  CHECK(parts(second) ==
        "attention=fp8 ffn=bf16 experts=int4 shared=int4 router=bf16 embedding=bf16 head=bf16");
  CHECK(second.kv_dtype == DType::fp8);
}

TEST_CASE("ModelOpt's NVFP4 and FP8, with wide modules by wildcards and a KV cache of its own") {
  json nvfp4 = {{"quant_method", "modelopt"},
                {"quant_algo", "NVFP4"},
                {"kv_cache_quant_algo", "FP8"},
                {"exclude_modules", {"lm_head", "model.layers.*.self_attn*"}}};
  const ModelSpec wide = with("deepseek-r1", nvfp4);
  CHECK(parts(wide) ==
        "attention=bf16 ffn=nvfp4 experts=nvfp4 shared=nvfp4 router=bf16 embedding=bf16 head=bf16");
  CHECK(wide.kv_dtype == DType::fp8);
  // NVIDIA's DeepSeek-V3.1 has its output projections in NVFP4: 28.0 GB for a token, 20.8 were it
  // all in NVFP4.
  nvfp4["exclude_modules"] = {"lm_head", "model.layers.*.self_attn.q_*", "model.layers.*.self_attn.kv_*"};
  const ModelSpec model = with("deepseek-r1", nvfp4);
  CHECK(parts(model) ==
        "attention=bf16 o_proj=nvfp4 ffn=nvfp4 experts=nvfp4 shared=nvfp4 router=bf16 embedding=bf16 "
        "head=bf16");
  CHECK(bytes_read(model) == Approx(28.0e9).epsilon(0.02));
  CHECK(bytes_read(model, DType::nvfp4) == Approx(20.8e9).epsilon(0.02));
  // KVP peers hold the projections of queries and the latent alike: bf16 weighs more on a rank of eight.
  const Sharding kvp8{.kvp = 8, .tpf = 8};
  double attention = 0;
  for (const Op& op : attention_ops({model, kvp8, shape_of(model)}, {})) attention += op.bytes.weights;
  CHECK(attention > 2.0 * (7168 * (1536 + 576) + 1536 * 128 * 192));
}

TEST_CASE("AWQ, GPTQ and bitsandbytes count scales and zero points") {
  const auto ffn = [](const json& quantization) {
    return with("llama-3.1-8b", quantization).weights[WeightPart::dense_ffn];
  };
  CHECK(ffn({{"quant_method", "awq"}, {"bits", 4}, {"group_size", 128}, {"zero_point", true}}) ==
        WeightFormat{DType::int4, 0.5 + 2.5 / 128});
  CHECK(ffn({{"quant_method", "gptq"}, {"bits", 8}, {"group_size", -1}}) == WeightFormat{DType::int8, 1});
  CHECK(ffn({{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}}) == WeightFormat{DType::int4, 0.5625});
  CHECK(ffn({{"quant_method", "fbgemm_fp8"}}) == WeightFormat{DType::fp8, 1});
}

TEST_CASE("what is not known of a quantization is refused by its field") {
  const auto refusal = [](const json& quantization) {
    return complaint("llama-3.1-8b", {{"quantization_config", quantization}});
  };
  CHECK_THAT(refusal({{"quant_method", "hqq"}}), Contains("quantization_config.quant_method = \"hqq\""));
  CHECK_THAT(refusal({{"bits", 4}}), Contains("quantization_config.quant_method"));
  CHECK_THAT(refusal("fp8"), Contains("quantization_config"));
  CHECK_THAT(refusal({{"quant_method", "awq"}, {"bits", 3}}), Contains("bits = 3"));
  CHECK_THAT(refusal({{"quant_method", "modelopt"}, {"quant_algo", "NVFP9"}}), Contains("NVFP9"));
  CHECK_THAT(refusal({{"quant_method", "fp8"}, {"weight_block_size", {0, 128}}}),
             Contains("weight_block_size"));
  CHECK_THAT(refusal({{"quant_method", "fp8"}, {"modules_to_not_convert", {"re:(((((("}}}),
             Contains("regular expression"));
  CHECK_THAT(refusal({{"quant_method", "fp8"}, {"modules_to_not_convert", {"re:a{100000}"}}}),
             Contains("regular expression"));
}

TEST_CASE("a flag's type stands for all parts but embedding and router, or for the parts it names") {
  const ModelSpec model = with("deepseek-r1", block_fp8);
  CHECK(parts(model, DType::nvfp4) ==
        "attention=nvfp4 ffn=nvfp4 experts=nvfp4 shared=nvfp4 router=bf16 embedding=bf16 head=nvfp4");
  CHECK_FALSE(shape_of(model, DType::nvfp4).weights);
  WeightRequest request;
  request.set(WeightPart::routed_experts, DType::nvfp4);
  CHECK(parts(model, request) ==
        "attention=fp8 ffn=fp8 experts=nvfp4 shared=fp8 router=bf16 embedding=bf16 head=bf16");
  CHECK(shape_of(model, request).weight_dtype == DType::nvfp4);
  CHECK(request.source() == "file+flag");
  CHECK(WeightRequest{}.source() == "file");
  CHECK(WeightRequest{DType::fp8}.source() == "flag");
}

TEST_CASE("tied embeddings are held once") {
  const ModelSpec tied = parsed(test::built_in("llama-3.2-1b"));
  REQUIRE(tied.tied_embeddings);
  CHECK(bytes_held(tied) == Approx(2 * 1.2358e9).epsilon(0.001));
}

TEST_CASE("entries name components, wildcards or expressions of a module's name") {
  const auto match = [](const std::string& entry, const std::string& module) {
    ModulePatterns patterns;
    patterns.add(entry);
    return patterns.match(module);
  };
  CHECK(match("gate", "model.layers.0.mlp.gate"));
  CHECK_FALSE(match("gate", "model.layers.0.mlp.gate_proj"));
  CHECK(match("model.layers.1", "model.layers.1.mlp.up_proj"));
  CHECK_FALSE(match("model.layers.1", "model.layers.11.mlp.up_proj"));
  CHECK(match("model.language_model.layers.1.mlp", "model.layers.1.mlp.up_proj"));
  CHECK(match("language_model.lm_head", "lm_head"));
  CHECK(match("model.layers.*.self_attn*", "model.layers.12.self_attn.q_a_proj"));
  CHECK_FALSE(match("model.layers.*.self_attn", "model.layers.12.mlp.self_attention"));
  CHECK(match("*lm_head*", "lm_head"));
  CHECK(match("re:.*mlp\\.(gate|up)_proj", "model.layers.0.mlp.up_proj"));
  CHECK_FALSE(match("re:mlp", "model.layers.0.mlp.up_proj"));
  CHECK_FALSE(match("", "lm_head"));
  CHECK(match("re:(a*)*b", std::string(60, 'a') + "b"));  // would backtrack for hours
}
