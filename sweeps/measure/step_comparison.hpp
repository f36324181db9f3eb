// One step of one request held against the fp64 reference, which one rank computes for all.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops/bf16.hpp"
#include "kernels/reference/reference_model.hpp"
#include "sweeps/measure/verify.hpp"

namespace helix {

/// A followed request; its reference is on the rank that computes it.
struct Follower {
  std::int64_t request;
  int owner;
  std::optional<reference::ReferenceRequest> reference{}, rounded{};

  void take_back(std::int64_t steps) {
    if (reference) reference->take_back(steps);
    if (rounded) rounded->take_back(steps);
  }
};

/// What the reference gives, and what it gives where it rounds as the engine does; of other ranks' requests nothing.
struct ExpectedStep {
  std::optional<reference::ReferenceStep> exact{}, rounded{};
};

/// What the engine gave.
struct ProducedStep {
  struct Block {
    std::string name;
    std::span<const BF16> output;  // empty where another rank has it
  };
  std::vector<Block> blocks{};
  std::span<const float> logits{};
  std::int32_t token = -1;
};

class StepComparison {
 public:
  /// `tolerance`: the relative errors that a step may have.
  StepComparison(const ModelSpec& model, double tolerance, MPI_Comm instance)
      : model_(model), tolerance_(tolerance), instance_(instance) {}

  /// Collective; `expected` is that of rank `owner`. `inherited`: how many times a step's errors it may have.
  void compare(std::string_view where, const ProducedStep& produced, const ExpectedStep& expected, int owner,
               double inherited = 1);
  /// What the engine chose, where its step is not compared otherwise.
  void check_choices(std::string_view where, const ExpectedStep& expected);
  /// Of all ranks. Collective.
  Verification result() const;

 private:
  void fail(std::string_view where, std::string_view what);

  const ModelSpec& model_;
  double tolerance_;
  MPI_Comm instance_;
  Verification result_;
};

}  // namespace helix
