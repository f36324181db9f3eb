// What checkpoints call the tensors of a model, in one table for all architectures: where they differ, a file has one of
// the names, and which it is says how the tensor lies in it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kernels/checkpoint/within.hpp"
#include "kernels/ops/tensor_ids.hpp"

namespace helix {

struct Spelling {
  Tensor tensor;
  /// "{l}" is the layer, "{e}" the expert; behind what all names of the model begin with, but for lm_head.
  std::string_view name;
  Within within = Within::whole;
};
/// Those of a tensor follow each other.
std::span<const Spelling> spellings();

std::string spelled(const Spelling& spelling, std::string_view root, const TensorId& id);

}  // namespace helix
