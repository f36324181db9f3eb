#include "kernels/engine/recorded_steps.hpp"

namespace helix {

RecordedSteps::RecordedSteps(DecodeEngine& engine, Device& device, StepObserver& observer)
    : engine_(engine), device_(device), observer_(observer) {
  engine.rewind();
  if (!device.asynchronous()) return;
  rehearse();
  // All kinds now: a rank that recorded one in the middle of a measurement would let the others wait.
  const DecodeEngine::HostState now = engine.host_state();
  for (std::int64_t steps = engine.steps_before_rewind() - engine.steps_done(); steps > 0; --steps) {
    std::unique_ptr<Recording>& recording = recordings_[engine.next_kind()];
    if (recording) {
      engine.skip_step();
    } else {
      recording = device.record([&] { engine.step(observer); });
    }
  }
  engine.restore(now);
}

/// What a kernel's or a library's first call does, loading code and choosing algorithms among it, cannot be
/// recorded. Two steps of each rank's turn to append: the second receives what the first sends.
void RecordedSteps::rehearse() {
  for (int turn = 0; turn < engine_.plan().sharding().kvp; ++turn) {
    engine_.rewind(std::int64_t{turn} * engine_.plan().shape().tokens_per_block);
    engine_.step(observer_);
    engine_.step(observer_);
  }
  engine_.rewind();
  device_.synchronize();
}

void RecordedSteps::step() {
  if (!device_.asynchronous()) {
    engine_.step(observer_);
    return;
  }
  recordings_.at(engine_.next_kind())->replay();
  engine_.skip_step();
}

}  // namespace helix
