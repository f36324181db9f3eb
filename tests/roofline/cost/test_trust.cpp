// What a prediction says about itself: everything that was not measured sets a mark.
#include <catch2/catch.hpp>

#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_cost.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/cost/trust.hpp"

using namespace helix;

namespace {

Extrapolated step(const char* system_name, Engine engine, std::int64_t batch = 8,
                  const Sharding& s = {.tpa = 8, .tpf = 8}) {
  SystemSpec system = load_system(system_name);
  system.engine = engine;
  const DecodeShape shape{
      .context = 4096, .batch = batch, .weight_dtype = DType::fp8, .kv_dtype = DType::fp8};
  return predict({load_model("llama-3.1-70b"), s, shape}, system).trust.extrapolated;
}

Extrapolated op_marks(const OpShape& shape, DType dtype, bool block_scaled = false,
                      const char* system = "b200") {
  return gpu_op_time({.shape = shape,
                      .dtype = dtype,
                      .bytes = {.weights = 1e7, .kv = 1e7, .state = 1e6},
                      .block_scaled = block_scaled},
                     load_system(system))
      .trust.extrapolated;
}

AttentionShape attention(AttentionKind kind, std::int64_t batch, std::int64_t head_dim,
                         std::int64_t picked = 0) {
  return {.kind = kind,
          .batch = batch,
          .q_heads = 8,
          .kv_heads = 1,
          .head_dim = head_dim,
          .v_dim = kind == AttentionKind::mla ? 512 : head_dim,
          .tokens = 4096,
          .picked = picked};
}

MoeShape experts(std::int64_t matrices = 3) {
  return {.tokens = 16,
          .hidden = 4096,
          .ffn = 2048,
          .local_experts = 32,
          .top_k = 8,
          .active_experts = 30,
          .pairs = 128,
          .matrices = matrices,
          .experts = 32};
}

}  // namespace

TEST_CASE("An engine whose constants were taken over marks its steps") {
  CHECK_FALSE(step("b200", Engine::trtllm).any());
  CHECK_FALSE(step("h100", Engine::trtllm).any());
  CHECK_FALSE(step("h100", Engine::vllm).any());
  CHECK_FALSE(step("b200", Engine::none).any());
  CHECK(to_string(step("b200", Engine::vllm)) == "engine");
  CHECK(to_string(step("b200", Engine::sglang)) == "engine");
  CHECK(to_string(step("h100", Engine::sglang)) == "engine");
  CHECK(to_string(step("h200", Engine::trtllm)) == "system");
  CHECK(to_string(step("gb200", Engine::vllm)) == "system+engine");
}

TEST_CASE("An engine's steps were measured in TP alone: other layouts are marked, kernels alone are not") {
  const Sharding helix{.kvp = 2, .tpa = 4, .tpf = 8};
  CHECK(step("b200", Engine::trtllm, 8, helix).engine);
  CHECK_FALSE(step("b200", Engine::none, 8, helix).any());
}

TEST_CASE("A batch beyond what was measured marks the step") {
  CHECK_FALSE(step("b200", Engine::none, 256).shape);
  CHECK(step("b200", Engine::none, 257).shape);  // rows of a product
  const auto marks = [](AttentionKind kind, std::int64_t batch, std::int64_t picked = 0) {
    return op_marks(attention(kind, batch, kind == AttentionKind::mla ? 576 : 128, picked), DType::fp8).shape;
  };
  CHECK_FALSE(marks(AttentionKind::gqa, 2048));
  CHECK(marks(AttentionKind::gqa, 2049));
  CHECK_FALSE(marks(AttentionKind::mla, 1024));
  CHECK(marks(AttentionKind::mla, 1025));
  CHECK_FALSE(marks(AttentionKind::mla, 256, 2048));
  CHECK(marks(AttentionKind::mla, 257, 2048));
  const auto sent = [](std::int64_t tokens) {
    return op_marks(
               CollectiveShape{
                   .op = Collective::all_to_all,
                   .group = 8,
                   .routed = {.tokens = tokens, .top_k = 8, .hidden = 4096, .bytes_per_value = 2}},
               DType::bf16)
        .shape;
  };
  CHECK_FALSE(sent(256));
  CHECK(sent(257));
}

TEST_CASE("Heads, caches and states that were not measured are marked") {
  CHECK_FALSE(op_marks(attention(AttentionKind::gqa, 8, 128), DType::bf16).any());
  CHECK(op_marks(attention(AttentionKind::gqa, 8, 256), DType::bf16).shape);
  CHECK(op_marks(attention(AttentionKind::gqa, 8, 128), DType::nvfp4).shape);
  CHECK(op_marks(StateShape{}, DType::fp32).shape);
}

TEST_CASE("A kernel that stands for one of other weights is marked") {
  const GemmShape product{.m = 8, .n = 4096, .k = 4096};
  CHECK_FALSE(op_marks(product, DType::bf16).any());
  CHECK(op_marks(product, DType::int4).shape);
  CHECK_FALSE(op_marks(experts(), DType::mxfp4).any());
  CHECK(op_marks(experts(), DType::nvfp4, false, "h100").shape);  // widened as MXFP4 is
  CHECK_FALSE(op_marks(experts(), DType::nvfp4).any());
  // Generated kernels for a scale a block were not measured on Blackwell.
  CHECK_FALSE(op_marks(experts(), DType::fp8).any());
  CHECK(op_marks(experts(), DType::fp8, true).shape);
}

TEST_CASE("Where an engine's own kernel of the experts was not measured, the library's is marked") {
  SystemSpec h100 = load_system("h100");
  const auto marked = [&](Engine engine, DType dtype) {
    h100.engine = engine;
    return gpu_op_time({.shape = experts(), .dtype = dtype, .bytes = {.weights = 1e8}}, h100)
        .trust.extrapolated.shape;
  };
  CHECK_FALSE(marked(Engine::trtllm, DType::mxfp4));
  CHECK(marked(Engine::vllm, DType::mxfp4));  // Triton's, of which FP8 with a scale a block was measured
  CHECK_FALSE(marked(Engine::vllm, DType::fp8));
}

TEST_CASE("Experts without a gate take kernels that were measured without one") {
  const auto us = [](std::int64_t matrices) {
    return gpu_op_time({.shape = experts(matrices), .dtype = DType::fp8, .bytes = {.weights = 1e8}},
                       load_system("b200"))
        .total_us;
  };
  CHECK(us(2) != us(3));
}

TEST_CASE("A group beyond one NVLink domain is marked") {
  const CollectiveShape sum{.group = 16, .payload_bytes = 65536};
  CHECK(op_marks(sum, DType::bf16).group);
  SystemSpec small = load_system("h100");
  small.link.domain = 4;
  CHECK(gpu_collective_time(small, {.group = 8, .payload_bytes = 65536}).trust.extrapolated.group);
  CHECK_FALSE(gpu_collective_time(small, {.group = 4, .payload_bytes = 65536}).trust.extrapolated.group);
}

TEST_CASE("Marks are read as they are written") {
  for (const char* text : {"", "engine", "system+context+shape+group+engine"})
    CHECK(to_string(parse_extrapolated(text)) == text);
  CHECK_THROWS_AS(parse_extrapolated("engines"), UsageError);
}
