// What decodes: a model spread over ranks, and the step that they run.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "roofline/step/decode_step.hpp"

namespace helix {

/// Legal by construction: whoever has one need not ask why_illegal again.
class Instance {
 public:
  struct Parts {
    const ModelSpec& model;  // must outlive the instance
    Strategy strategy = Strategy::helix;
    Sharding sharding;
    DecodeShape shape;
    std::int64_t layers = 0;  // of the model's, from the first on
    std::uint64_t seed = 0;   // of the synthetic weights and history
  };
  /// The instance, or why there is none.
  static std::variant<Instance, std::string> make(const Parts& parts);

  const ModelSpec& model() const { return *model_; }
  Strategy strategy() const { return strategy_; }
  const Sharding& sharding() const { return sharding_; }
  const DecodeShape& shape() const { return shape_; }
  std::int64_t layers() const { return layers_; }
  std::uint64_t seed() const { return seed_; }

  DecodeStep step() const { return {*model_, sharding_, shape_}; }

  /// Those of a pipeline stage.
  Range layers_of(int stage) const { return stage_layers(layers_, sharding_, stage); }

 private:
  explicit Instance(const Parts& parts);

  const ModelSpec* model_;
  Strategy strategy_;
  Sharding sharding_;
  DecodeShape shape_;
  std::int64_t layers_;
  std::uint64_t seed_;
};

}  // namespace helix
