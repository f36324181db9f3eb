#include <catch2/catch.hpp>

#include "kernels/ops/backend.hpp"
#include "roofline/step/memory.hpp"
#include "sweeps/measure/point_runner.hpp"
#include "test_models.hpp"

using namespace helix;

namespace {

constexpr std::int64_t steps = 33;  // more than a round, in blocks of 32 and less

Configuration configuration(int kvp, int tpa, std::int64_t context, std::int64_t batch,
                            int tokens_per_block) {
  Configuration c{.model = "", .sharding = {.kvp = kvp, .tpa = tpa, .tpf = kvp * tpa}, .shape = {}};
  c.shape.context = context;
  c.shape.batch = batch;
  c.shape.tokens_per_block = tokens_per_block;
  return c;
}

Instance instance_of(const Configuration& c, const ModelSpec& model, std::int64_t layers) {
  return legal_instance(model, c.sharding, c.shape, layers);
}

/// Weights, caches and the indexer's arrays of the engine: other activations are small beside them.
double weights_and_cache(const Instance& instance, int rank, const Backend& backend) {
  const RankPlan plan(instance, rank);
  return memory_model(instance.step()).weights +
         static_cast<double>(DecodeEngine::cache_bytes(plan, steps, backend).sum() +
                             Indexer::array_bytes(backend, plan, steps));
}

/// Why the engine of a point would not be able to pass its messages on.
std::string exchange_problem(const Configuration& c, const ModelSpec& model) {
  return why_not_exchanged(instance_of(c, model, model.layers));
}

}  // namespace

TEST_CASE(
    "what a point is said to need holds the cache that the engine takes, its growth and padding included") {
  const auto backend = make_cpu_backend(1);
  bool growth_mattered = false;
  for (const char* name : {"tiny-gqa", "tiny-mla", "tiny-dsa"}) {
    const ModelSpec model = load_model(name);
    for (const int kvp : {1, 2, 4}) {
      for (const int tokens_per_block : {8, 16, 32, 64}) {
        for (const std::int64_t context : {1, 31, 64, 65, 1000, 4096}) {
          const Instance instance =
              instance_of(configuration(kvp, 1, context, 64, tokens_per_block), model, model.layers);
          for (int rank = 0; rank < kvp; ++rank) {
            CAPTURE(name, kvp, tokens_per_block, context, rank);
            const double taken = weights_and_cache(instance, rank, *backend);
            CHECK(engine_bytes(instance, steps, *backend) >= taken);
            const MemoryModel memory = memory_model({model, instance.sharding(), instance.shape()});
            if (memory.bytes(instance.shape().batch) < taken) growth_mattered = true;
          }
        }
      }
    }
  }
  CHECK(growth_mattered);
}

TEST_CASE("messages that MPI does not count to are a reason, not an abort") {
  const ModelSpec model = load_model("llama-3.1-8b");  // hidden 4096, vocabulary 128256
  CHECK(exchange_problem(configuration(2, 1, 64, 4096, 32), model).empty());
  // 2 ranks gather 64128 fp32 logits of each request: 2^31 bytes are passed at 8372.
  CHECK(exchange_problem(configuration(2, 1, 64, 8371, 32), model).empty());
  CHECK_THAT(exchange_problem(configuration(2, 1, 64, 8372, 32), model), Catch::Contains("2147483647"));
  CHECK(exchange_problem(configuration(1, 1, 64, 1 << 20, 32), model).empty());
  // A narrow vocabulary leaves the all-reduce of 2 x 4096 bytes a request.
  ModelSpec narrow = model;
  narrow.vocab = 128;
  CHECK(exchange_problem(configuration(1, 2, 64, 262143, 32), narrow).empty());
  CHECK_FALSE(exchange_problem(configuration(1, 2, 64, 262144, 32), narrow).empty());
}

TEST_CASE("a point is admitted, or one reason says why not, for sweep and verify alike") {
  const auto backend = make_cpu_backend(1);
  const ModelSpec model = load_model("tiny-gqa");
  World world;
  world.memory_fraction = 1;
  world.memory_bytes = std::size_t{1} << 40;
  SweepPoint point{.config = configuration(1, 1, 64, 1, 32), .model = &model, .skip_reason = ""};
  const EngineExtent extent{.layers = 2, .least_layers = 1, .steps = steps};
  const Admission admitted = admit(point, extent, 5, *backend, world);
  CHECK(admitted.reason.empty());
  REQUIRE(admitted.engine);
  CHECK(admitted.engine->memory_bytes == engine_bytes(admitted.engine->instance, steps, *backend));
  CHECK(admitted.engine->memory_bytes < engine_bytes(instance_of(point.config, model, 3), steps, *backend));
  CHECK(admitted.engine->instance.seed() == 5);

  CHECK_THAT(admit(point, {.layers = 2, .least_layers = 3, .steps = steps}, 5, *backend, world).reason,
             Catch::Contains("--layers 2") && Catch::Contains("at least 3"));
  // The last page of a request is taken whole.
  world.memory_bytes = static_cast<std::size_t>(2 * admitted.engine->memory_bytes);
  CHECK(admit(point, extent, 5, *backend, world).reason.empty());
  point.config.shape.tokens_per_block = 1 << 20;
  CHECK_THAT(admit(point, extent, 5, *backend, world).reason, Catch::Contains("does not fit memory"));
  world.memory_bytes = std::size_t{1} << 50;
  CHECK(admit(point, extent, 5, *backend, world).reason.empty());
  // So many requests that their logits pass what one message can hold.
  point.config = configuration(2, 1, 64, 1 << 22, 32);
  CHECK_THAT(admit(point, extent, 5, *backend, world).reason, Catch::Contains("MPI counts to"));
  point.config = configuration(1, 1, 64, 1, 32);
  point.config.shape.kv_dtype = DType::nvfp4;
  CHECK_THAT(admit(point, extent, 5, *backend, world).reason, Catch::Contains("kv dtype nvfp4 is predicted"));
  point.skip_reason = "illegal";
  CHECK(admit(point, extent, 5, *backend, world).reason == "illegal");
}

TEST_CASE("layers with a window hold no more than it, whatever the context") {
  const auto backend = make_cpu_backend(1);
  const ModelSpec model = load_model("tiny-gpt-oss");  // one full layer between two with windows of 48
  const std::int64_t batch = 8;
  const double token = real(batch) * 2 * 4 * 64 * 2;  // of a layer
  for (const std::int64_t context : {4096, 16384}) {
    for (const int kvp : {1, 2, 4}) {
      CAPTURE(context, kvp);
      const Instance instance = instance_of(configuration(kvp, 1, context, batch, 32), model, model.layers);
      const auto kv =
          static_cast<double>(DecodeEngine::cache_bytes(RankPlan(instance, 0), steps, *backend).kv);
      const double full = token * (real(context / kvp) + 32), windows = token * 2 * (kvp == 1 ? 64 : 32);
      CHECK(kv > full + windows);
      CHECK(kv < 1.01 * (full + windows));
    }
  }
}

TEST_CASE(
    "of sparse attention the keys of all tokens are held, their scores, the offers and the chosen rows") {
  const auto backend = make_cpu_backend(1);
  const ModelSpec model = load_model("tiny-dsa");  // keys of 128, rows of 576, 48 tokens chosen
  const std::int64_t context = 4096, batch = 8;
  for (const int kvp : {1, 2, 4}) {
    CAPTURE(kvp);
    const Instance instance = instance_of(configuration(kvp, 1, context, batch, 32), model, model.layers);
    const RankPlan plan(instance, 0);
    const double keys = real(batch * context / kvp * 128 * 2), scores = real(batch * context / kvp * 4);
    const double chosen = real(batch * 48) * (576 * 2 + (1 + kvp) * 8);
    const CacheBytes caches = DecodeEngine::cache_bytes(plan, steps, *backend);
    CHECK(static_cast<double>(caches.index_keys) > real(model.layers) * keys);
    CHECK(static_cast<double>(caches.index_keys) < 1.1 * static_cast<double>(caches.kv) * 128 / 576);
    CHECK(static_cast<double>(Indexer::array_bytes(*backend, plan, steps)) > scores + chosen);
  }
  ModelSpec dense = model;
  dense.attention.indexer = {};
  const RankPlan plan(instance_of(configuration(2, 1, context, batch, 32), dense, 1), 0);
  CHECK(DecodeEngine::cache_bytes(plan, steps, *backend).index_keys == 0);
  CHECK(Indexer::array_bytes(*backend, plan, steps) == 0);
}

TEST_CASE("a cache that the backend has no kernels for is a reason, not an abort") {
  const auto backend = make_cpu_backend(1);
  ModelSpec model = load_model("tiny-gqa");
  SweepPoint point{.config = configuration(1, 1, 64, 1, 32), .model = &model, .skip_reason = ""};
  CHECK(why_not_measured(point, *backend).empty());
  model.attention.qk_head_dim = model.attention.v_head_dim = 72;
  CHECK_THAT(why_not_measured(point, *backend), Catch::Contains("predicted, not measured: ") &&
                                                    Catch::Contains("multiples of 16 wide, not 72 and 72"));
  model.attention.qk_head_dim = model.attention.v_head_dim = 80;
  CHECK(why_not_measured(point, *backend).empty());
  model = load_model("tiny-dsa");
  CHECK(why_not_measured(point, *backend).empty());
  model.attention.indexer.head_dim = 72;
  CHECK_THAT(why_not_measured(point, *backend), Catch::Contains("multiples of 32 wide, not 72 and 72"));
}
