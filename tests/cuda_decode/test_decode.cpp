// The whole decode step with the CUDA kernels on the emulated GPU, its collectives over MPI, against the fp64
// reference: that the kernels' layouts and the orchestration fit together.
#include <catch2/catch.hpp>

#include "cuda/emulated_backend.hpp"
#include "cuda/fake_kernel_driver.hpp"
#include "mpi/rank.hpp"

namespace helix {

TEST_CASE("the CUDA kernels decode as the reference does, across a change of owner") {
  using testing::EmulatedBackend;
  const int ranks = world_size();
  const auto [name, context, batch, weights, kv] =
      GENERATE(table<std::string, std::int64_t, std::int64_t, DType, DType>(
          {{"tiny-gqa", 21, 2, DType::bf16, DType::bf16},
           {"tiny-gqa", 257, 2, DType::fp8, DType::nvfp4},
           {"tiny-gqa", 5, 33, DType::nvfp4, DType::bf16},  // products of terms
           {"tiny-qwen3-moe", 21, 1, DType::bf16, DType::fp8},
           {"tiny-qwen3-moe", 21, 2, DType::nvfp4, DType::bf16},
           {"tiny-mla", 21, 2, DType::bf16, DType::bf16},
           {"tiny-mla", 21, 2, DType::fp8, DType::bf16},
           {"tiny-mla", 21, 1, DType::nvfp4, DType::nvfp4},
           {"tiny-dsa", 21, 2, DType::bf16, DType::bf16},
           {"tiny-dsa", 70, 1, DType::fp8, DType::nvfp4},
           {"tiny-gpt-oss", 6, 2, DType::bf16, DType::bf16},
           {"tiny-gpt-oss", 21, 1, DType::fp8, DType::fp8},
           {"tiny-gemma3", 5, 2, DType::bf16, DType::bf16},
           {"tiny-gemma3", 70, 1, DType::nvfp4, DType::nvfp4},
           {"tiny-command-r", 21, 2, DType::bf16, DType::bf16},
           {"tiny-command-r", 70, 1, DType::fp8, DType::fp8}}));
  const bool many = batch > 2;
  const ModelSpec model = with_window(with_top_k(load_model(name), 13), 7);
  const bool moe = model.moe.experts > 0;
  const Sharding sharding{.kvp = ranks, .tpf = moe ? 1 : ranks, .ep = moe ? ranks : 1};
  const DecodeShape shape{
      .context = context, .batch = batch, .tokens_per_block = 2, .weight_dtype = weights, .kv_dtype = kv};
  // A dense and, where there is one, an expert layer.
  Rank rank(
      std::make_unique<EmulatedBackend>(cuda::kDatacentreGpu, EmulatedBackend::Writers::kernels_and_mpi));
  const Instance instance = legal_instance(model, sharding, shape);
  const Verification result =
      rank.verify_instance(instance, {.steps = many ? 1 : shape.tokens_per_block + 1, .layers = {0, 1}});
  CAPTURE(describe(instance), result.rel_error, result.failure);
  CHECK(result.ok());
  CHECK(result.rel_error > 0);  // bf16 against fp64 cannot agree entirely
}

// NVIDIA's kernels behind the same step: a stand-in for their driver attends as their header describes them.
TEST_CASE("a step with trtllm-gen's attention decodes as the reference does") {
  using testing::EmulatedBackend;
  const int ranks = world_size();
  const auto [name, context, kv] = GENERATE(table<std::string, std::int64_t, DType>(
      {{"tiny-gqa", 21, DType::bf16}, {"tiny-gqa", 70, DType::fp8}, {"tiny-mla", 33, DType::bf16}}));
  const ModelSpec model = load_model(name);
  const bool moe = model.moe.experts > 0;
  const Sharding sharding{.kvp = ranks, .tpf = moe ? 1 : ranks, .ep = moe ? ranks : 1};
  const DecodeShape shape{.context = context, .batch = 3, .kv_dtype = kv, .kernels = KernelMaker::trtllm_gen};
  auto backend =
      std::make_unique<EmulatedBackend>(cuda::kDatacentreGpu, EmulatedBackend::Writers::kernels_and_mpi);
  testing::FakeKernelDriver* driver = nullptr;
  backend->add_provider(testing::fake_trtllm_gen(cuda::kDatacentreGpu, &driver));
  Rank rank(std::move(backend));
  const Instance instance = legal_instance(model, sharding, shape);
  const Verification result = rank.verify_instance(instance, {.steps = 34, .layers = {0, 1}});
  CAPTURE(describe(instance), result.rel_error, result.failure);
  CHECK(result.ok());
  CHECK(result.rel_error > 0);
  // Of a rank whose turn it never was nothing is asked.
  CHECK((driver->launched.size() > 0 || ranks > 1));
}

TEST_CASE("the CUDA kernels check drafted tokens as the reference decodes them") {
  using testing::EmulatedBackend;
  const int ranks = world_size();
  const auto [name, context, block, drafts, kv] =
      GENERATE(table<std::string, std::int64_t, int, int, DType>({{"tiny-gqa", 31, 32, 3, DType::bf16},
                                                                  {"tiny-gqa", 17, 4, 7, DType::fp8},
                                                                  {"tiny-qwen3-moe", 21, 1, 1, DType::bf16},
                                                                  {"tiny-mtp", 14, 4, 2, DType::bf16},
                                                                  {"tiny-mla", 15, 4, 3, DType::bf16}}));
  const ModelSpec model = load_model(name);
  const bool moe = model.moe.experts > 0;
  const Sharding sharding{.kvp = ranks, .tpf = moe ? 1 : ranks, .ep = moe ? ranks : 1};
  const DecodeShape shape{
      .context = context, .batch = 2, .tokens_per_block = block, .kv_dtype = kv, .draft_tokens = drafts};
  Rank rank(
      std::make_unique<EmulatedBackend>(cuda::kDatacentreGpu, EmulatedBackend::Writers::kernels_and_mpi));
  const Instance instance = legal_instance(model, sharding, shape);
  const OwnerChange change = steps_to_owner_change(block, shape.query_tokens());
  const Verification result =
      rank.verify_instance(instance, {.steps = 2, .first_turn = change.first_turn, .layers = {0, 1}});
  CAPTURE(describe(instance), drafts, result.rel_error, result.failure);
  CHECK(result.ok());
  CHECK(result.rel_error > 0);
}

// Pieces of HOP-B and micro-batches of unequal size are batches of their own: each is cut into as many splits
// as fill the GPU. (batch, pieces) of most cases are such that a piece leaves more results than the whole
// batch would. Every array of the engine has guards around it.
TEST_CASE("the CUDA kernels decode in pieces and micro-batches of every size") {
  using testing::EmulatedBackend;
  if (world_size() != 2) return;
  struct Case {
    int multiprocessors, kvp, pp, hop_b;
    std::vector<std::int64_t> batches;
  };
  const auto [multiprocessors, kvp, pp, hop_b, batches] =
      GENERATE(Case{132, 2, 1, 2, {27, 34}}, Case{132, 1, 2, 1, {29}}, Case{148, 2, 1, 2, {31}},
               Case{148, 1, 2, 1, {33}}, Case{152, 2, 1, 2, {32}}, Case{152, 2, 1, 8, {8, 13}});
  const ModelSpec model = load_model("tiny-gqa");
  const Sharding sharding{.kvp = kvp, .tpf = kvp, .pp = pp};
  auto backend = std::make_unique<EmulatedBackend>(cuda::wide_gpu(multiprocessors),
                                                   EmulatedBackend::Writers::kernels_and_mpi);
  Rank rank(std::move(backend));
  for (const std::int64_t batch : batches) {
    const DecodeShape shape{.context = 70, .batch = batch, .tokens_per_block = 2, .hop_b = hop_b};
    const Instance instance = legal_instance(model, sharding, shape);
    const Verification result = rank.verify_instance(instance, {.layers = telling_layers(instance)});
    CAPTURE(multiprocessors, describe(instance), result.rel_error, result.failure);
    CHECK(result.ok());
    CHECK(result.rel_error > 0);
  }
}

}  // namespace helix
