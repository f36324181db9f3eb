// One rank of a test's world: decodes what a test asks for and holds it against the fp64 reference.
#pragma once

#include <fmt/format.h>
#include <mpi.h>

#include <memory>
#include <string>
#include <utility>

#include "kernels/comm/rank_groups.hpp"
#include "kernels/engine/decode_engine.hpp"
#include "kernels/reference/reference_model.hpp"
#include "sweeps/measure/text_agreement.hpp"
#include "sweeps/measure/verify.hpp"

namespace helix {

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

  Verification verify_grid(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
                           const VerifyOptions& options, std::uint64_t seed = 5) {
    const Groups groups = make_groups(*backend_, MPI_COMM_WORLD, sharding);
    weights_.load(model, seed, sharding, groups.rank(), model.layers, shape.weight_dtype);
    DecodeEngine engine(model, sharding, shape, model.layers, options.steps, seed, *backend_, groups,
                        weights_, memory_);
    return verify(engine, model, shape, seed, options, MPI_COMM_WORLD);
  }

  /// Logits of a text with weights from elsewhere, on the last rank.
  std::vector<float> decode(const ModelSpec& model, const Sharding& sharding, const DecodeShape& shape,
                            std::span<const std::int32_t> tokens, const WeightSource& source) {
    const Groups groups = make_groups(*backend_, MPI_COMM_WORLD, sharding);
    weights_.load(model, 0, sharding, groups.rank(), model.layers, shape.weight_dtype, &source);
    DecodeEngine engine(model, sharding, shape, model.layers, std::ssize(tokens), 0, *backend_, groups,
                        weights_, memory_);
    return decode_text(engine, tokens, shape.batch, model.vocab, MPI_COMM_WORLD);
  }

 private:
  std::unique_ptr<Backend> backend_;
  EngineMemory memory_;
  WeightStore weights_;
};

inline std::vector<std::int64_t> all_layers(const ModelSpec& model) {
  return reference::first_layers(model.layers);
}

inline std::string describe(const ModelSpec& model, const Sharding& s, const DecodeShape& shape) {
  return fmt::format("{} dp={} kvp={} tpa={} tpf={} ep={} pp={} S={} B={} block={} hop={} weights={} kv={}",
                     model.name, s.dp, s.kvp, s.tpa, s.tpf, s.ep, s.pp, shape.context, shape.batch,
                     shape.tokens_per_block, shape.hop_b, name(shape.weight_dtype), name(shape.kv_dtype));
}

}  // namespace helix
