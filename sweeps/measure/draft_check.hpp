// Drafts held against the fp64 reference: what an engine's own draft layer makes of the tokens before a step.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <span>
#include <vector>

#include "sweeps/measure/step_comparison.hpp"
#include "sweeps/measure/step_record.hpp"

namespace helix {

/// Of the step just done.
class DraftCheck {
 public:
  /// `checked`: the step's tokens, on every rank. Collective.
  DraftCheck(const DecodeEngine& engine, const StepRecord& record, std::span<const std::int32_t> checked,
             MPI_Comm instance);

  /// `chosen`: behind the tokens of the last step that were accepted. Not before a request's tokens are checked.
  /// Collective.
  void compare(std::int64_t step, Follower& follower, std::span<const std::int32_t> chosen,
               StepComparison& comparison) const;

 private:
  const StepRecord& record_;
  std::span<const std::int32_t> checked_;
  std::int64_t hidden_, query_tokens_, top_k_ = 0;
  std::vector<std::vector<std::int32_t>> routing_;  // of each run
};

}  // namespace helix
