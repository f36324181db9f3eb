// How far requests may grow: to the last token that the cache has room for, and not one step further.
#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <tuple>

#include "mpi/rank.hpp"

namespace helix {
namespace {

struct Grid {
  ModelSpec model;
  Sharding sharding;
};

/// A grid of all ranks of the world for each strategy, where it has one.
std::vector<Grid> a_grid_of_each_strategy(const DecodeShape& shape) {
  const int n = world_size();
  const std::tuple<const char*, Strategy, Sharding> candidates[] = {
      {"tiny-gqa", Strategy::helix, {.kvp = n, .tpf = n}},
      {"tiny-mla-lite", Strategy::helix, {.kvp = n / 2, .tpf = n, .dp = 2}},
      {"tiny-gqa", Strategy::tp, {.tpa = n, .tpf = n}},
      {"tiny-gqa", Strategy::tp_pp, {.pp = n}},
      {"tiny-mla-lite", Strategy::medha, {.kvp = n}},
      {"tiny-qwen3-moe", Strategy::dp_ep, {.ep = n, .dp = n}}};
  std::vector<Grid> grids;
  for (const auto& [name, strategy, sharding] : candidates) {
    const ModelSpec model = load_model(name);
    if (sharding.ranks() == n && !why_illegal(model, strategy, sharding, shape))
      grids.push_back({model, sharding});
  }
  return grids;
}

/// Decodes until the room is used up, tries one step further, and decodes again after a rewind.
void use_up_the_room(const Grid& grid, const DecodeShape& shape, std::int64_t steps, std::int64_t first_turn,
                     Backend& backend) {
  const auto& [model, sharding] = grid;
  const Instance instance = legal_instance(model, sharding, shape, sharding.pp);
  CAPTURE(describe(instance), steps);
  const Groups groups = make_groups(backend, MPI_COMM_WORLD, sharding);
  WeightStore weights(backend);
  EngineMemory memory;
  weights.load(RankPlan(instance, groups.rank()));
  DecodeEngine engine(instance, steps, backend, groups, weights, memory);
  CHECK(engine.steps_before_rewind() >= steps);
  StepObserver observer;
  engine.rewind(first_turn);
  for (std::int64_t step = 0; step < engine.steps_before_rewind(); ++step) engine.step(observer);
  engine.settle();
  const std::vector<float> logits = engine.gather_logits();
  CHECK(std::ranges::all_of(logits, [](float x) { return std::isfinite(x); }));
  CHECK_THROWS_AS(engine.step(observer), OutOfRoom);
  CHECK(engine.steps_done() == engine.steps_before_rewind());
  engine.rewind();
  CHECK_NOTHROW(engine.step(observer));
  engine.settle();
}

}  // namespace

TEST_CASE("every strategy decodes to the end of its room and is refused the step behind it") {
  const auto backend = make_cpu_backend(1);
  int checked = 0;
  for (const int block : {1, 4, 16, 32, 64, 128}) {
    for (const std::int64_t context : {128 - 1, 128, 128 + 1}) {
      const DecodeShape shape{
          .context = context, .batch = world_size() + 1, .tokens_per_block = block, .hop_b = 1};
      for (const Grid& grid : a_grid_of_each_strategy(shape)) {
        use_up_the_room(grid, shape, 1, 0, *backend);
        ++checked;
      }
    }
  }
  CHECK(checked >= 18);
}

TEST_CASE("one step more than whole blocks gets the room of another block, whoever has the first turn") {
  const auto backend = make_cpu_backend(1);
  for (const int block : {1, 4, 32}) {
    const DecodeShape shape{.context = 64, .batch = 2L * world_size(), .tokens_per_block = block, .hop_b = 2};
    for (const Grid& grid : a_grid_of_each_strategy(shape)) {
      use_up_the_room(grid, shape, std::int64_t{grid.sharding.kvp} * block + 1, block - 1, *backend);
    }
  }
}

TEST_CASE("a change of owner behind long blocks decodes as the reference does") {
  Rank rank;
  for (const int block : {4, 1024}) {
    const OwnerChange change = steps_to_owner_change(block);
    CHECK(change.first_turn + change.steps == block + 1);
    const DecodeShape shape{.context = 64, .batch = world_size(), .tokens_per_block = block};
    for (const auto& [model, sharding] : a_grid_of_each_strategy(shape)) {
      const Instance instance = legal_instance(model, sharding, shape);
      const Verification result = rank.verify_instance(instance, {.steps = change.steps,
                                                                  .first_turn = change.first_turn,
                                                                  .layers = telling_layers(instance),
                                                                  .max_requests = 1,
                                                                  .first_compared_step = change.steps - 2});
      CAPTURE(describe(instance), result.rel_error, result.failure);
      CHECK(result.ok());
      CHECK(result.rel_error > 0);
    }
  }
}

}  // namespace helix
