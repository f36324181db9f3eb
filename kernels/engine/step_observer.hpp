// Who watches a decode step.
#pragma once

#include <cstdint>

#include "roofline/step/phases.hpp"

namespace helix {

/// Told as a step goes by. Layers count from 0; embedding and head report as Phase::head.
class StepObserver {
 public:
  virtual ~StepObserver() = default;
  virtual void step_begin() {}
  virtual void phase_done(Phase) {}
  virtual void draft_done(std::int64_t) {}  // a run of the draft layer; before the layers begin
  virtual void layers_begin() {}
  virtual void layer_done(std::int64_t) {}
  virtual void step_end() {}
};

}  // namespace helix
