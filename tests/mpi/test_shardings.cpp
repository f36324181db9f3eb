// Every sharding of every kind of model against the single-rank fp64 reference, over steps in which the owner
// of the new token changes.
#include <catch2/catch.hpp>

#include "mpi/rank.hpp"
#include "test_models.hpp"

namespace helix {
namespace {

struct Grid {
  Strategy strategy;
  Sharding sharding;
};

/// Every legal grid of all ranks of the world.
std::vector<Grid> grids(const ModelSpec& model, const DecodeShape& shape) {
  const int n = world_size();
  std::vector<Grid> legal;
  for (Strategy strategy : {Strategy::helix, Strategy::tp}) {
    for (int kvp = 1; kvp <= n; ++kvp) {
      for (int ep = 1; ep <= n; ++ep) {
        if (n % kvp != 0 || n % ep != 0) continue;
        const Sharding s{.kvp = kvp, .tpa = n / kvp, .tpf = n / ep, .ep = ep};
        if (!why_illegal(model, strategy, s, shape)) legal.push_back({strategy, s});
      }
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
                                                std::tuple{100, 3, 7}, std::tuple{257, 2, 16}}) {
      for (DType kv : {DType::bf16, DType::fp8}) {
        const DecodeShape shape{
            .context = context, .batch = batch, .tokens_per_block = block, .kv_dtype = kv};
        for (const Grid& grid : grids(model, shape)) {
          const Verification result =
              rank.verify_grid(model, grid.sharding, shape,
                               {.steps = block + 2, .depth = model.layers, .max_requests = batch});
          CAPTURE(describe(model, grid.sharding, shape), result.rel_error, result.failure);
          CHECK(result.ok());
          CHECK(result.rel_error > 0);  // bf16 against fp64 cannot agree entirely
          ++checked;
        }
      }
    }
  }
  CHECK(checked >= 60);
}

}  // namespace helix
