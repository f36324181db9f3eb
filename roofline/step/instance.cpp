#include "roofline/step/instance.hpp"

#include <fmt/format.h>

namespace helix {

Instance::Instance(const Parts& parts)
    : model_(&parts.model),
      strategy_(parts.strategy),
      sharding_(parts.sharding),
      shape_(parts.shape),
      layers_(parts.layers),
      seed_(parts.seed) {}

std::variant<Instance, std::string> Instance::make(const Parts& parts) {
  if (auto reason = why_illegal(parts.model, parts.strategy, parts.sharding, parts.shape)) return *reason;
  if (parts.layers < parts.sharding.pp || parts.layers > parts.model.layers) {
    return fmt::format("layers={}: from pp={}, one a stage, to the {} of {}", parts.layers, parts.sharding.pp,
                       parts.model.layers, parts.model.name);
  }
  return Instance(parts);
}

}  // namespace helix
