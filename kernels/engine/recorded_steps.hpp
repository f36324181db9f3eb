// Decode steps without the cost of issuing their ops: on a GPU each kind of step becomes one CUDA graph.
#pragma once

#include <map>
#include <memory>

#include "kernels/engine/decode_engine.hpp"

namespace helix {

class RecordedSteps {
 public:
  /// Runs, then records every kind of step that comes before the engine's next rewind: a step that appends to
  /// this rank's cache issues other ops than one that does not. How long requests are is in device memory.
  /// `observer` is told of the ops while they are recorded, not at each step: it may only set marks of a
  /// stopwatch. Rewinds the engine; collective over its ranks.
  RecordedSteps(DecodeEngine& engine, Device& device, StepObserver& observer);

  /// As engine.step(observer).
  void step();

 private:
  void rehearse();

  DecodeEngine& engine_;
  Device& device_;
  StepObserver& observer_;
  std::map<DecodeEngine::StepKind, std::unique_ptr<Recording>> recordings_;
};

}  // namespace helix
