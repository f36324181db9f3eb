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

/// Decodes at every grid; returns how many there are.
int check_grids(Rank& rank, const ModelSpec& model, const DecodeShape& shape) {
  int checked = 0;
  for (const Sharding& sharding : grids(model, shape)) {
    const Verification result = rank.verify_grid(
        model, sharding, shape,
        {.steps = shape.tokens_per_block + 2, .depth = model.layers, .max_requests = shape.batch});
    CAPTURE(describe(model, sharding, shape), result.rel_error, result.failure);
    CHECK(result.ok());
    CHECK(result.rel_error > 0);  // bf16 against fp64 cannot agree entirely
    ++checked;
  }
  return checked;
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
        checked += check_grids(
            rank, model, {.context = context, .batch = batch, .tokens_per_block = block, .kv_dtype = kv});
      }
    }
  }
  CHECK(checked >= 60);  // a grid at least of each model, shape and type of cache
}

TEST_CASE("every grid decodes with fp8 weights as the reference does with the same values") {
  Rank rank;
  for (const ModelSpec& model : small_models()) {
    CHECK(check_grids(rank, model,
                      {.context = 89, .batch = 3, .tokens_per_block = 5, .weight_dtype = DType::fp8}) > 0);
  }
}

}  // namespace helix
