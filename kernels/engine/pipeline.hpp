// The hand-over between pipeline stages. A stage works on one micro-batch after another; what it leaves goes
// to the next stage while it receives its next input, so that every stage has a micro-batch of its own once
// the pipeline is full. The tokens of the last stage go back to the first, which begins the requests' next
// step with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/engine/block_context.hpp"
#include "kernels/ops/memory.hpp"

namespace helix {

class Pipeline {
 public:
  struct Arrays {
    Arrays(Carver& carver, const RankPlan& plan);

    std::int32_t* tokens;          // [rows of a step]
    Stream stream;                 // of the largest micro-batch
    Stream incoming;               // where there are other stages
    std::size_t stream_bytes = 0;  // of one, which is one message
  };
  /// What a step changes besides device memory.
  struct State {
    Stream stream, incoming;
    bool tokens_on_way = false;  // to this rank of the first stage, from the last
  };

  Pipeline(const RankPlan& plan, const Groups& groups, const Arrays& arrays);

  const Stream& stream() const { return state_.stream; }
  std::int32_t* tokens() const { return a_.tokens; }
  std::int32_t* tokens(const MicroBatch& batch) const { return a_.tokens + batch.rows().begin; }
  const State& state() const { return state_; }
  void restore(const State& state) { state_ = state; }

  /// Hands on micro-batch `next` - 1 (0: none yet) and receives micro-batch `next` (none behind the last).
  void hand_over(std::size_t next, StepObserver& observer);
  /// Behind the last hand-over of a step.
  void step_done();
  /// Leaves the state as a step would.
  void skip_step();
  /// Receives the last tokens.
  void settle();

 private:
  using Message = std::pair<std::byte*, std::size_t>;
  Message tokens_message(const MicroBatch& batch) const;

  const RankPlan& plan_;
  const Groups& groups_;
  Arrays a_;
  State state_;
};

}  // namespace helix
