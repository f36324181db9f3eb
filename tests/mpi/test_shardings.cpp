// Every sharding of every kind of model against the single-rank fp64 reference, over steps in which the owner
// of the new token changes.
#include <algorithm>
#include <catch2/catch.hpp>

#include "mpi/grids.hpp"
#include "mpi/rank.hpp"
#include "test_models.hpp"

namespace helix {
namespace {

bool one_stage_one_group(const Sharding& s) {
  return s.pp == 1 && s.dp == 1 && s.tpf * s.ep == s.stage_ranks();
}

void check_grid(Rank& rank, const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape) {
  const Instance instance = legal_instance(model, sharding, shape);
  const std::int64_t turns = shape.tokens_per_block + 2, steps = std::min<std::int64_t>(turns, 6);
  const Verification result = rank.verify_instance(
      instance,
      {.steps = steps, .first_turn = turns - steps, .layers = all_layers(model), .max_requests = 3});
  CAPTURE(describe(instance), result.rel_error, result.failure);
  CHECK(result.ok());
  CHECK(result.rel_error > 0);  // bf16 against fp64 cannot agree entirely
}

}  // namespace

TEST_CASE("every grid of one stage decodes as the reference does, across a change of owner") {
  Rank rank;
  int checked = 0, turn = 0;
  for (const ModelSpec& model : small_models()) {
    // Contexts: fewer blocks than ranks (empty shards), one token, whole blocks, a short last block, and
    // blocks that the ranks do not divide.
    for (const auto& [context, batch, block] : {std::tuple{1, 1, 4}, std::tuple{4, 3, 4}, std::tuple{9, 1, 4},
                                                std::tuple{89, 3, 5}, std::tuple{130, 1, 16}}) {
      const bool fp8s_turn = ++turn % 2 == 0;
      for (DType kv : {DType::bf16, DType::fp8}) {
        if (!every_shape() && (kv == DType::fp8) != fp8s_turn)
          continue;  // one type of cache a shape, in turn
        const DecodeShape shape{
            .context = context, .batch = batch, .tokens_per_block = block, .kv_dtype = kv};
        for (const Sharding& sharding : grids(model, shape)) {
          if (!one_stage_one_group(sharding)) continue;
          check_grid(rank, model, sharding, shape);
          ++checked;
        }
      }
    }
  }
  CHECK(checked >= (every_shape() ? 60 : 30));  // a grid at least of each model, shape and type of cache
}

TEST_CASE("every grid of one stage decodes with fp8 weights as the reference does with the same values") {
  Rank rank;
  for (const ModelSpec& model : small_models()) {
    const DecodeShape shape{.context = 89, .batch = 3, .tokens_per_block = 5, .weight_dtype = DType::fp8};
    for (const Sharding& sharding : grids(model, shape))
      if (one_stage_one_group(sharding)) check_grid(rank, model, sharding, shape);
  }
}

TEST_CASE("DP groups, pipeline stages and idle FFN ranks decode as the reference does") {
  Rank rank;
  int checked = 0;
  for (const ModelSpec& model : small_models()) {
    // A request alone leaves stages without work; batches that groups and stages do not divide.
    for (const std::int64_t batch : {1, 5}) {
      const DecodeShape shape{.context = 21, .batch = batch, .tokens_per_block = 2};
      for (const Sharding& sharding : grids(model, shape)) {
        if (one_stage_one_group(sharding)) continue;
        check_grid(rank, model, sharding, shape);
        ++checked;
      }
    }
  }
  CHECK((checked >= 12 || world_size() == 1));
}

TEST_CASE("HOP-B decodes as the reference does, in even and uneven pieces, in DP groups and stages") {
  Rank rank;
  int checked = 0;
  const std::vector<ModelSpec> models = small_models();
  // GQA, in parallel blocks, and MLA with sparse attention.
  for (const ModelSpec& model : {models.front(), load_model("tiny-command-r"), models.back()}) {
    for (const int pieces : {2, 5}) {
      const DecodeShape shape{.context = 21, .batch = 5, .tokens_per_block = 2, .hop_b = pieces};
      for (const Sharding& sharding : grids(model, shape)) {
        if (sharding.kvp == 1 || sharding.tpf * sharding.ep != sharding.stage_ranks()) continue;
        check_grid(rank, model, sharding, shape);
        ++checked;
      }
    }
  }
  CHECK((checked >= 4 || world_size() == 1));
}

}  // namespace helix
