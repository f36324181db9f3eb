#include "kernels/recorded_steps.hpp"

namespace helix {

RecordedSteps::RecordedSteps(DecodeEngine& engine, Device& device, StepObserver& observer)
    : engine_(engine), device_(device), observer_(observer) {
  if (!device.asynchronous()) return;
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

void RecordedSteps::step() {
  if (!device_.asynchronous()) {
    engine_.step(observer_);
    return;
  }
  recordings_.at(engine_.next_kind())->replay();
  engine_.skip_step();
}

}  // namespace helix
