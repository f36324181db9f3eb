// Steps that are recorded and replayed, as a CUDA graph is, against steps that are issued op by op.
#include <catch2/catch.hpp>

#include "cuda_decode/asynchronous_backend.hpp"
#include "kernels/engine/recorded_steps.hpp"
#include "mpi/rank.hpp"
#include "sweeps/measure/step_clock.hpp"

namespace helix {
namespace {

struct Decoding {
  std::vector<std::vector<std::int32_t>> tokens;  // of each step
  std::vector<float> logits;                      // of the last
};

/// Decodes `steps` steps, step i with step(i).
template <class Step>
Decoding decode(DecodeEngine& engine, int steps, Step step) {
  Decoding result;
  engine.rewind();
  for (int i = 0; i < steps; ++i) {
    step(i);
    engine.settle();
    result.tokens.push_back(engine.tokens());
  }
  result.logits = engine.gather_logits();
  return result;
}

}  // namespace

TEST_CASE("recorded steps decode as issued ones do, and neither allocates, copies or waits") {
  const int ranks = world_size();
  struct Case {
    std::string model;
    bool moe;
    int hop_b, pp;
  };
  const Case c = GENERATE(Case{"tiny-gqa", false, 2, 1}, Case{"tiny-qwen3-moe", true, 1, 1},
                          Case{"tiny-gqa", false, 1, 2});
  if (ranks % c.pp != 0) return;
  const ModelSpec model = load_model(c.model);
  const int wide = ranks / c.pp;
  const Sharding sharding{.kvp = wide, .tpf = c.moe ? 1 : wide, .ep = c.moe ? wide : 1, .pp = c.pp};
  const DecodeShape shape{.context = 9, .batch = 2, .tokens_per_block = 2, .hop_b = c.hop_b};
  const Instance instance = legal_instance(model, sharding, shape, 2);
  CAPTURE(describe(instance));
  // Of two ranks both append in some of them, and are passed over in others.
  const int steps = static_cast<int>(shape.tokens_per_block) + 1;

  testing::AsynchronousBackend backend;
  const Groups groups = make_groups(backend, MPI_COMM_WORLD, sharding);
  WeightStore weights(backend);
  EngineMemory memory;
  weights.load(RankPlan(instance, groups.rank()));
  DecodeEngine engine(instance, steps, backend, groups, weights, memory);

  PhaseClock phases(depth_weights(instance), backend);
  const auto issue = [&] { backend.in_step([&] { engine.step(phases); }); };
  const Decoding issued = decode(engine, steps, [&](int) { issue(); });
  CHECK(phases.elapsed_us() > 0);
  CHECK(phases.times().total() > 0);

  LayerClock clock(depth_weights(instance), backend);
  RecordedSteps recorded(engine, backend, clock);
  // As a measurement does it: now and then a step that is taken apart.
  const Decoding mixed = decode(engine, steps, [&](int i) { i == 1 ? issue() : recorded.step(); });
  CHECK(mixed.tokens == issued.tokens);
  CHECK(mixed.logits == issued.logits);
  // Layers stand for more than themselves; of two stages the last has all of its own.
  if (c.pp == 1) CHECK(clock.us() > clock.elapsed_us());
}

TEST_CASE("the emulation refuses in a step what would stop a GPU") {
  testing::AsynchronousBackend backend;
  const auto buffer = backend.allocate(64);
  std::byte host[64] = {};
  backend.in_step([&] {
    CHECK_THROWS_AS(backend.allocate(1), std::logic_error);
    CHECK_THROWS_AS(backend.synchronize(), std::logic_error);
    CHECK_THROWS_AS(backend.copy_to_device(buffer->data(), host, 64), std::logic_error);
    CHECK_THROWS_AS(backend.copy_to_host(host, buffer->data(), 64), std::logic_error);
  });
  CHECK_NOTHROW(backend.synchronize());
}

}  // namespace helix
