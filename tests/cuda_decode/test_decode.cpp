// The whole decode step with the CUDA kernels on the emulated GPU, its collectives over MPI, against the fp64
// reference: that the kernels' layouts and the orchestration fit together.
#include <catch2/catch.hpp>

#include "cuda/emulated_backend.hpp"
#include "mpi/rank.hpp"

namespace helix {

TEST_CASE("the CUDA kernels decode as the reference does, across a change of owner") {
  using testing::EmulatedBackend;
  const int ranks = world_size();
  const auto [name, batch, kv] = GENERATE(table<std::string, std::int64_t, DType>(
      {{"tiny-gqa", 2, DType::bf16}, {"tiny-qwen3-moe", 1, DType::fp8}, {"tiny-mla", 2, DType::bf16}}));
  const ModelSpec model = load_model(name);
  const bool moe = model.moe.experts > 0;
  const Sharding sharding{.kvp = ranks, .tpf = moe ? 1 : ranks, .ep = moe ? ranks : 1};
  const DecodeShape shape{.context = 21, .batch = batch, .tokens_per_block = 2, .kv_dtype = kv};
  // A dense and, where there is one, an expert layer.
  Rank rank(
      std::make_unique<EmulatedBackend>(cuda::kDatacentreGpu, EmulatedBackend::Writers::kernels_and_mpi));
  const Verification result =
      rank.verify_grid(model, sharding, shape, {.steps = shape.tokens_per_block + 1, .layers = {0, 1}});
  CAPTURE(describe(model, sharding, shape), result.rel_error, result.failure);
  CHECK(result.ok());
  CHECK(result.rel_error > 0);  // bf16 against fp64 cannot agree entirely
}

}  // namespace helix
