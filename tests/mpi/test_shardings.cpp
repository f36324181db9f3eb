// Every sharding of every kind of model against the single-rank fp64 reference, over steps in which the owner
// of the new token changes.
#include <catch2/catch.hpp>

#include "mpi/rank.hpp"
#include "test_models.hpp"

namespace helix {
namespace {

/// Every grid of all ranks of the world that is legal under a strategy that the engine runs.
std::vector<Sharding> grids(const ModelSpec& model, const DecodeShape& shape) {
  const int n = world_size();
  std::vector<Sharding> legal;
  for (int kvp = 1; kvp <= n; ++kvp) {
    for (int ep = 1; ep <= n; ++ep) {
      if (n % kvp != 0 || n % ep != 0) continue;
      const Sharding s{.kvp = kvp, .tpa = n / kvp, .tpf = n / ep, .ep = ep};
      const auto runs_as = [&](Strategy strategy) { return !why_illegal(model, strategy, s, shape); };
      if (runs_as(Strategy::helix) || runs_as(Strategy::tp)) legal.push_back(s);
    }
  }
  return legal;
}

}  // namespace

TEST_CASE("every grid decodes as the reference does, across a change of owner") {
  Rank rank;
  int checked = 0;
  for (const ModelSpec& model : small_models()) {
    // Contexts: fewer blocks than ranks (empty shards), one token, whole blocks, a short last block, and
    // blocks that the ranks do not divide.
    for (const auto& [context, batch, block] : {std::tuple{1, 1, 4}, std::tuple{4, 3, 4}, std::tuple{9, 1, 4},
                                                std::tuple{89, 3, 5}, std::tuple{130, 1, 16}}) {
      for (DType kv : {DType::bf16, DType::fp8}) {
        const DecodeShape shape{
            .context = context, .batch = batch, .tokens_per_block = block, .kv_dtype = kv};
        for (const Sharding& sharding : grids(model, shape)) {
          const Verification result = rank.verify_grid(
              model, sharding, shape, {.steps = block + 2, .depth = model.layers, .max_requests = batch});
          CAPTURE(describe(model, sharding, shape), result.rel_error, result.failure);
          CHECK(result.ok());
          CHECK(result.rel_error > 0);  // bf16 against fp64 cannot agree entirely
          ++checked;
        }
      }
    }
  }
  CHECK(checked >= 60);  // a grid at least of each model, shape and type of cache
}

}  // namespace helix
