// When a configuration has been sampled enough: no clock, no MPI, only the series of samples.
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "sweeps/results/result_row.hpp"

namespace helix {

struct StoppingLimits {
  double max_time_s = 2.0;        // of sampled time, per configuration
  std::size_t min_samples = 10;   // these may take up to ten times max_time_s
  double relative_error = 0.005;  // standard error of the median / median
};

/// Stops a series of at least min_samples at the first of
///  - converged: the relative standard error of the median is at most the limit, and the medians of the first
///    and the second half of the series agree (a drifting series has a small standard error long before it has
///    a median);
///  - plateau: over the last two doublings of the sample count the error has not shrunk by a tenth each, where
///    independent samples shrink it by 1 / sqrt(2): more samples of this kind do not help;
///  - max_time: the samples add up to the time budget.
/// A shorter series ends as max_time when it has taken ten times the time budget: what is slower cannot have
/// its least samples.
class StoppingRule {
 public:
  explicit StoppingRule(const StoppingLimits& limits);

  /// The reason to stop after this sample, or nothing: go on. `elapsed_us`: what taking it cost of the time
  /// budget, where that is not the sample itself (a few layers, scaled to many).
  std::optional<StopReason> add(double sample_us, double elapsed_us);
  std::optional<StopReason> add(double sample_us) { return add(sample_us, sample_us); }

  double relative_error() const;
  std::size_t samples() const { return series_.size(); }

 private:
  bool drifts() const;
  bool improves();

  StoppingLimits limits_;
  std::vector<double> series_, ordered_;
  double total_us_ = 0;
  std::size_t next_checkpoint_;
  std::vector<double> checkpoint_errors_;  // at min_samples times 1, 2, 4, ...
};

}  // namespace helix
