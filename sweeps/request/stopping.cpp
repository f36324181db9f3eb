#include "sweeps/request/stopping.hpp"

#include <algorithm>
#include <cmath>
#include <span>

#include "roofline/base/statistics.hpp"

namespace helix {
namespace {

/// Fewer than min_samples are worth little, so that these may take this many times max_time_s.
constexpr double time_for_min_samples = 10;

}  // namespace

StoppingRule::StoppingRule(const StoppingLimits& limits)
    : limits_(limits), next_checkpoint_(std::max<std::size_t>(limits.min_samples, 2)) {}

std::optional<StopReason> StoppingRule::add(double sample_us, double elapsed_us) {
  series_.push_back(sample_us);
  ordered_.insert(std::ranges::upper_bound(ordered_, sample_us), sample_us);
  total_us_ += elapsed_us;

  const bool improving = improves();
  if (samples() >= limits_.min_samples) {
    if (relative_error() <= limits_.relative_error && !drifts()) return StopReason::converged;
    if (!improving) return StopReason::plateau;
  }
  const double limit = samples() >= limits_.min_samples ? 1.0 : time_for_min_samples;
  if (total_us_ >= limit * limits_.max_time_s * 1e6) return StopReason::max_time;
  return std::nullopt;
}

double StoppingRule::relative_error() const {
  return median_standard_error(ordered_) / median_of_sorted(ordered_);
}

bool StoppingRule::drifts() const {
  const std::span<const double> all = series_;
  const auto half = all.size() / 2;
  if (half < 2) return false;
  // At the limit e the standard error of each half is sqrt(2) e and that of their difference 2 e: two of
  // these pass.
  return std::abs(median(all.first(half)) - median(all.last(half))) >
         4.0 * limits_.relative_error * median_of_sorted(ordered_);
}

bool StoppingRule::improves() {
  if (samples() != next_checkpoint_) return true;
  next_checkpoint_ *= 2;
  checkpoint_errors_.push_back(relative_error());
  const auto n = checkpoint_errors_.size();
  if (n < 4) return true;  // the error of so few samples says little
  const auto stuck = [&](std::size_t i) { return checkpoint_errors_[i] > 0.9 * checkpoint_errors_[i - 1]; };
  return !(stuck(n - 1) && stuck(n - 2));
}

}  // namespace helix
