// What the blocks of a step share: whose part they run, on what, and the arrays that go from one to the next.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/comm/communicator.hpp"
#include "kernels/engine/step_observer.hpp"
#include "kernels/ops/backend.hpp"
#include "kernels/state/weight_store.hpp"
#include "roofline/step/rank_plan.hpp"

namespace helix {

/// What a stage hands on: the residual stream [rows, hidden], and the last block's output that is still to be
/// added.
struct Stream {
  float* residual = nullptr;
  BF16* delta = nullptr;
};

/// Where the rows of requests that the rank attends stand, [rows]: arrays of the device, as in StepState.
struct RowPlaces {
  std::int64_t *positions = nullptr, *slots = nullptr, *lengths = nullptr;
};

/// A run of the draft layer.
struct DraftRun {
  std::int64_t number = 0;  // of those of the step
  RowPlaces places{};       // of one row a request; none: those of the last step
};

/// What the blocks work on: a micro-batch on its way through the stage.
struct Work {
  const MicroBatch& batch;
  Stream stream;
  std::span<const Append> appends;  // to each of this rank's caches
  StepObserver& observer;
  const DraftRun* draft = nullptr;

  std::int64_t rows() const { return batch.rows().size(); }
  /// Of those, the ones that the rank attends.
  std::int64_t attended() const { return batch.attended_rows().size(); }
};

struct BlockContext {
  const RankPlan& plan;
  Backend& backend;
  const Groups& groups;
  const WeightStore& weights;
  BF16* normed;                  // [rows, hidden] of the block that runs
  BF16* attention_out;           // [attended rows, hidden] of parallel blocks, for the FFN's sum; else null
  std::span<std::byte> scratch;  // of the op that runs

  /// Adds what the last block left to the rows of the residual stream that the rank keeps, and leaves them
  /// normed. `replace`: they begin with it.
  void add_and_norm(const Work& work, const BF16* gain, bool replace = false) const;
  /// Norms the rows of the block's output that the rank keeps.
  void norm_output(const Work& work, const BF16* gain) const;
  /// Every rank's rows of the micro-batch, to all ranks.
  void gather_rows(const Work& work, void* data, std::size_t row_bytes) const;
  void gather_normed(const Work& work) const;
  /// Normed rows of the requests that the rank attends.
  const BF16* normed_attended(const Work& work) const;
};

}  // namespace helix
