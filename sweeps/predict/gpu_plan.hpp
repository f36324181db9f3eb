// `predict --gpus N`: the best use of so many GPUs, solved for instead of searched on a grid of batches.
#pragma once

#include <optional>
#include <vector>

#include "sweeps/predict/planned_sweep.hpp"

namespace helix {

/// What a strategy makes of the GPUs.
struct PlanAnswer {
  ResultRow row;      // of one instance
  int instances = 1;  // copies of it on the GPUs
  /// Tokens/s of all GPUs over those of the best other strategy; nothing if there is none.
  std::optional<double> gain;

  double tokens_per_s() const;
  std::int64_t users() const { return instances * row.config.shape.batch; }
};

/// The answers for one system, model, context and precision, the best first.
struct GpuPlan {
  SystemSpec system;
  ModelSpec model;
  DecodeShape shape;  // its context and types
  std::vector<PlanAnswer> answers;
  bool reachable = true;  // the budget; if not, the only answer is the fastest there is
};

/// With a budget: of each strategy the layout, batch and number of HOP-B's pieces that serve the most tokens/s
/// on `gpus` GPUs within it, the batch being the largest that meets it. Without: the knee, the largest
/// product of tokens/s/user and tokens/s/GPU. Layouts count for the baseline that they equal. Instances are
/// of every size up to all GPUs, unless the request lists ranks. Throws UsageError if it lists batches.
std::vector<GpuPlan> plan_gpus(const SweepRequest& request, int gpus);

/// Solves the request and prints its answers (and writes them as a run directory to --out); returns
/// the exit code.
int run_gpu_plan(const PredictRequest& request);

}  // namespace helix
