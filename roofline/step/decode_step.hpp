// What is predicted and counted: one decode step.
#pragma once

#include "roofline/step/sharding.hpp"

namespace helix {

/// A model's step, spread over ranks. Of any widths: planners price parts of shardings that are legal only as a whole;
/// an Instance is legal. A view for the time of a call, which keeps nothing alive.
struct DecodeStep {
  const ModelSpec& model;
  const Sharding& sharding;
  const DecodeShape& shape;
};

}  // namespace helix
