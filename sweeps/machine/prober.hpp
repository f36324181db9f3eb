// Timing calls on all ranks of a group at once, in rounds.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/ops/backend.hpp"
#include "sweeps/machine/round_figure.hpp"

namespace helix {

/// Ops that are timed again and again, on a device without the cost of issuing them.
class TimedOps {
 public:
  TimedOps(Backend& backend, std::function<void()> ops);
  TimedOps(const TimedOps&) = delete;
  TimedOps& operator=(const TimedOps&) = delete;
  /// Runs them; microseconds.
  double run_us();

 private:
  Backend& backend_;
  std::unique_ptr<Stopwatch> stopwatch_;
  std::function<void()> ops_;
  std::unique_ptr<Recording> recording_;
};

/// How often and how long figures are taken, and which of the times stands.
struct ProbeEffort {
  double figure_us = 7e3;  // of one figure in one round, about
  int least_rounds = 10, most_rounds = 10;
  /// Quantile of a call's times that is its figure. A step is a sum of calls on ranks that wait for each
  /// other, so a run sees their mean. That lies 3 to 7 % above the median, but rests on too few long calls to
  /// be measured in seconds: this is as far up as others that take the CPU meanwhile allow. The lower
  /// quartile is what the machine does when few disturb it, and what another calibration finds again.
  double quantile = 0.6;
};

/// Takes figures in rounds: each round times all of them, so that a disturbance that lasts for seconds
/// touches a few times of every figure instead of all times of a few figures. All its functions are
/// collective over the group.
class Prober {
 public:
  Prober(Backend& backend, MPI_Comm group, const ProbeEffort& effort)
      : backend_(backend), group_(group), effort_(effort) {}

  /// A call to be timed, by all ranks at once. `call(i)` gets the number of the call, to turn to other data
  /// each time; it may only call ops and collectives. It is called once before the clock runs, for the first
  /// touch of its memory. The figure is the slowest rank's; the reference stays valid.
  const Figure& time(std::function<void(std::int64_t)> call);
  /// A rate of which hardly anything exceeds what this measures; the figure is microseconds of one unit of
  /// it: the tenth best of a hundred, since the very best is an extreme that is not found again.
  const Figure& ceiling(std::function<double()> rate_per_s);

  /// Measures round after round, until every figure is known to 1.5 % or there were enough rounds; noisy
  /// figures are then taken anew, twice at most, and the steadier one stays, however noisy. All ranks have
  /// the same figures afterwards.
  void measure();

 private:
  struct Series {
    std::function<double()> sample_us;
    int samples;  // of a round
    double quantile;
    std::vector<std::vector<double>> rounds;
    Figure figure;
  };
  void measure(const std::vector<Series*>& series);
  void agree_on_figures(const std::vector<Series*>& series);
  double slowest(double us) const;
  int samples_of_round(double sample_us) const;

  Backend& backend_;
  MPI_Comm group_;
  ProbeEffort effort_;
  std::deque<Series> series_;
};

/// What becomes of figures once they are measured.
template <typename T>
using Pending = std::function<T()>;

/// Device memory that probes walk through, so that what they read is cold: several times
/// the last-level cache.
class ColdMemory {
 public:
  /// Fills it with small finite values of that dtype: bf16 ones would be huge as fp8, and their softmax not
  /// the usual one.
  ColdMemory(Backend& backend, std::span<std::byte> memory, DType dtype);
  std::byte* data() const { return memory_.data(); }
  std::size_t bytes() const { return memory_.size(); }

  /// As many matrices [n, k] as fit; their values are what the memory holds.
  PackedWeight matrices(const Backend& backend, std::int64_t n, std::int64_t k, DType dtype) const;

 private:
  std::span<std::byte> memory_;
};

}  // namespace helix
