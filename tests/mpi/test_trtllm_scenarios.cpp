// The scenarios of TensorRT-LLM's test_mla_helix: one MLA module over two KVP ranks, one decode step.
// Contexts up to 16K run always; HELIX_TEST_MAX_CONTEXT=1m (any number of tokens) asks for the longer ones:
//
//   HELIX_TEST_MAX_CONTEXT=1m mpirun -n 2 build/release/bin/test_mpi "TensorRT-LLM*"
#include <catch2/catch.hpp>
#include <cstdlib>
#include <vector>

#include "mpi/rank.hpp"
#include "sweeps/common/list_syntax.hpp"

namespace helix {
namespace {

/// Hidden 2560, 32 heads, kv_lora 512, nope 128, rope 64, v 128. FFN and vocabulary are as small as the rest
/// of a layer may be: the module is what the scenarios are about.
ModelSpec trtllm_module() {
  ModelSpec model = load_model("tiny-mla-lite");
  model.name = "trtllm-mla";
  model.layers = 1;
  model.hidden = 2560;
  model.ffn = 256;
  model.vocab = 256;
  model.moe = {};
  model.attention.q_heads = 32;
  return model;
}

struct Scenario {
  std::int64_t batch;
  std::int64_t context;
};

std::vector<Scenario> scenarios() {
  std::vector<Scenario> list;
  const auto add = [&](std::int64_t batch, std::int64_t first, std::int64_t last, std::int64_t factor) {
    for (std::int64_t context = first; context <= last; context *= factor) list.push_back({batch, context});
  };
  constexpr std::int64_t k = 1024;
  add(1, 64, 1024 * k, 4);
  add(8, 1 * k, 128 * k, 2);
  add(16, 1 * k, 64 * k, 4);
  return list;
}

std::int64_t longest_context() {
  const char* asked = std::getenv("HELIX_TEST_MAX_CONTEXT");
  return parse_count(asked == nullptr ? "16k" : asked, context_tokens, "HELIX_TEST_MAX_CONTEXT");
}

}  // namespace

TEST_CASE("TensorRT-LLM's MLA scenarios decode as the reference does") {
  if (world_size() != 2) {
    WARN("left out: the scenarios are those of two KVP ranks, this world has " << world_size());
    return;
  }
  const ModelSpec model = trtllm_module();
  REQUIRE(model.attention.kv_lora_rank == 512);
  REQUIRE(model.attention.qk_nope_head_dim == 128);
  REQUIRE(model.attention.qk_rope_head_dim == 64);
  REQUIRE(model.attention.v_head_dim == 128);
  const Sharding sharding{.kvp = 2, .tpf = 2};
  Rank rank;
  for (const auto& [batch, context] : scenarios()) {
    if (context > longest_context()) continue;
    const DecodeShape shape{.context = context, .batch = batch, .tokens_per_block = 32};
    const Instance instance = legal_instance(model, sharding, shape);
    // The first and the last request, whose references the two ranks compute side by side.
    const Verification result =
        rank.verify_instance(instance, {.steps = 1, .layers = {0}, .max_requests = 2});
    CAPTURE(describe(instance), result.rel_error, result.failure);
    CHECK(result.ok());
    CHECK(result.rel_error > 0);  // bf16 against fp64 cannot agree entirely
  }
}

}  // namespace helix
