// One rank of a test's world: decodes what a test asks for and holds it against the fp64 reference.
#pragma once

#include <fmt/format.h>
#include <mpi.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "kernels/comm/rank_groups.hpp"
#include "kernels/engine/decode_engine.hpp"
#include "kernels/reference/reference_model.hpp"
#include "sweeps/measure/text_truth.hpp"
#include "sweeps/measure/verify.hpp"
#include "test_models.hpp"

namespace helix {

/// The sanitizers make decoding several times as slow: tests then take some of their shapes.
#ifdef __SANITIZE_ADDRESS__
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

/// HELIX_TEST_EVERY_SHAPE asks for all that the long matrices cross, as the nightly tests do. Otherwise they take from one
/// shape to the next another type of cache or another sharding.
inline bool every_shape() {
  return std::getenv("HELIX_TEST_EVERY_SHAPE") != nullptr;
}

inline int world_size() {
  int size = 1;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

/// Keeps its memory from one verification to the next, as a sweep does.
class Rank {
 public:
  explicit Rank(std::unique_ptr<Backend> backend = make_cpu_backend(1))
      : backend_(std::move(backend)), weights_(*backend_) {}

  Verification verify_instance(const Instance& instance, VerifyOptions options) {
    if (std::exchange(synthetic_of_, instance.model().name) != instance.model().name)
      synthetic_ = std::make_shared<reference::SyntheticWeights>();
    options.synthetic = synthetic_;
    const Groups groups = make_groups(*backend_, MPI_COMM_WORLD, instance.sharding());
    weights_.load(RankPlan(instance, groups.rank()));
    DecodeEngine engine(instance, options.steps, *backend_, groups, weights_, memory_);
    return verify(engine, options, MPI_COMM_WORLD);
  }

  /// A text with weights from elsewhere.
  DecodedText decode(const Instance& instance, std::span<const std::int32_t> tokens,
                     const WeightSource& source) {
    const Groups groups = make_groups(*backend_, MPI_COMM_WORLD, instance.sharding());
    weights_.load(RankPlan(instance, groups.rank()), &source);
    DecodeEngine engine(instance, std::ssize(tokens), *backend_, groups, weights_, memory_);
    return decode_text(engine, tokens, MPI_COMM_WORLD);
  }

 private:
  std::unique_ptr<Backend> backend_;
  EngineMemory memory_;
  WeightStore weights_;
  std::string synthetic_of_;
  std::shared_ptr<reference::SyntheticWeights> synthetic_;
};

inline std::vector<std::int64_t> all_layers(const ModelSpec& model) {
  return reference::first_layers(model.layers);
}

inline std::string describe(const Instance& instance) {
  const Sharding& s = instance.sharding();
  const DecodeShape& shape = instance.shape();
  return fmt::format("{} dp={} kvp={} tpa={} tpf={} ep={} pp={} S={} B={} block={} hop={} weights={} kv={}",
                     instance.model().name, s.dp, s.kvp, s.tpa, s.tpf, s.ep, s.pp, shape.context, shape.batch,
                     shape.tokens_per_block, shape.hop_b, name(shape.weight_dtype), name(shape.kv_dtype));
}

}  // namespace helix
