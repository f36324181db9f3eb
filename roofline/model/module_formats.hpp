// From the formats of a checkpoint's modules to those of a model's parts.
#pragma once

#include <string>

#include "roofline/model/model_spec.hpp"

namespace helix {

/// A module's storage by its name in the checkpoint.
class ModuleFormats {
 public:
  virtual ~ModuleFormats() = default;
  virtual WeightFormat of(const std::string& module) const = 0;
};

/// Fills spec.weights: a part of which modules differ has the mean of their bytes, and the type that most of its parameters
/// have. The shapes of `spec` have been read before.
void store_formats(const ModuleFormats& formats, ModelSpec& spec);

}  // namespace helix
