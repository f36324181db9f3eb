// What an engine tells its communicators of the memory that they exchange.
#include <catch2/catch.hpp>

#include <set>

#include "kernels/engine/decode_engine.hpp"
#include "recording_backend.hpp"
#include "test_models.hpp"

namespace helix::testing {
namespace {

struct ExposedToGroups {
  CountingCommunicator::Exposed stage, kvp;
};

ExposedToGroups exposed_by(const Instance& instance, int rank) {
  Notes notes;
  RecordingBackend backend(notes);
  const Groups groups = counting_groups(notes, instance.sharding(), rank);
  WeightStore weights(backend);
  EngineMemory memory;
  weights.load(RankPlan(instance, rank));
  const DecodeEngine engine(instance, 1, backend, groups, weights, memory);
  const auto of = [](const Communicator& group) {
    return static_cast<const CountingCommunicator&>(group).exposed();
  };
  return {of(*groups.stage), of(*groups.kvp)};
}

/// Different ones among the ranks of a stage.
std::size_t layouts(const Sharding& sharding, std::int64_t batch) {
  const ModelSpec model = load_model("tiny-gqa");
  const Instance instance = legal_instance(model, sharding, {.context = 100, .batch = batch});
  std::set<std::uint64_t> found;
  for (int rank = 0; rank < sharding.stage_ranks(); ++rank)
    found.insert(exposed_by(instance, rank).stage.layout);
  return found.size();
}

}  // namespace

// Symmetric memory relies on it: an array of one rank lies where that of another does.
TEST_CASE("ranks say of their arrays whether they lie alike") {
  CHECK(layouts({.kvp = 2, .tpf = 2}, 4) == 1);
  CHECK(layouts({.kvp = 2, .tpf = 4, .dp = 2}, 4) == 1);
  CHECK(layouts({.kvp = 1, .tpf = 2, .dp = 2}, 5) == 2);  // three requests, and two
}

TEST_CASE("only the KVP group of HOP-B is told of exchanges in flight") {
  const ModelSpec model = load_model("tiny-gqa");
  for (const int hop_b : {1, 2}) {
    const Instance instance =
        legal_instance(model, {.kvp = 2, .tpf = 2}, {.context = 100, .batch = 4, .hop_b = hop_b});
    const ExposedToGroups exposed = exposed_by(instance, 0);
    CHECK(exposed.kvp.in_flight == (hop_b > 1));
    CHECK_FALSE(exposed.stage.in_flight);
  }
}

}  // namespace helix::testing
