// Timing calls on all ranks of a group at once, and the cost curve through such timings.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "kernels/ops.hpp"
#include "roofline/system_spec.hpp"

namespace helix {

/// One timed call: what it moves and computes, and how long it took.
struct Probe {
  double bytes = 0, flops = 0, us = 0;
};

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

/// How often and how long figures are taken, and which of the values stands.
struct ProbeEffort {
  double seconds = 0.04;  // of one figure in one round
  int least_rounds = 3, most_rounds = 3;
  /// Quantile of the rounds that is a kernel's time: the median is what a run beside it will see, a low one
  /// what the machine does when nobody disturbs it, which is what another calibration finds again.
  double quantile = 0.5;
};

/// Takes figures in rounds: each round takes all of them once, in the same order, so that a disturbance that
/// lasts for seconds touches every figure in one round instead of one figure in all.
class Prober {
 public:
  Prober(Backend& backend, MPI_Comm group, const ProbeEffort& effort)
      : backend_(backend), group_(group), effort_(effort) {}

  /// Calls `take_figures` round after round, until the figures have settled or there were enough rounds.
  void rounds(const std::function<void()>& take_figures);

  /// Microseconds of a call, all ranks calling at once, on the slowest rank: median of this round's calls,
  /// the effort's quantile of the rounds so far. `call(i)` gets the number of the call, to turn to other data
  /// each time; it may only call ops.
  double us(const std::function<void(std::int64_t)>& call);
  /// The same of a time that every rank has measured in this round.
  double us(double of_this_rank) { return figure(of_this_rank, effort_.quantile); }
  /// A rate that nothing exceeds: the best of the rounds so far, on the slowest rank.
  double ceiling(double of_this_rank) { return 1 / figure(1 / of_this_rank, 0); }

  /// By how much, relatively, the first and the last half of the rounds differ about the figures since the
  /// last call: the widest difference.
  double take_spread();
  /// The largest value of all ranks, of no figure.
  double slowest(double us) const;
  double seconds() const { return effort_.seconds; }

 private:
  double figure(double of_this_rank, double fraction);

  Backend& backend_;
  MPI_Comm group_;
  ProbeEffort effort_;
  std::vector<std::vector<double>> figures_;  // by their number in a round: a value of each round
  std::size_t next_ = 0;
  double spread_ = 0, widest_spread_ = 0;
};

/// The rate whose curve t = fixed + ((bytes / bw)^p + (flops / peak)^p)^(1/p) comes closest to the probes in
/// the worst case. bw and peak are what the best probe reached of each; the norm says how well the two
/// overlap. `spread`: of the probes.
KernelRate fit(KernelFamily family, DType dtype, double fixed_us, const std::vector<Probe>& probes,
               double spread);

/// Device memory that probes walk through, so that what they read is cold: several times the last-level
/// cache.
class ColdMemory {
 public:
  /// Fills it with small finite values of that dtype: bf16 ones would be huge as fp8, and their softmax not
  /// the usual one.
  ColdMemory(Backend& backend, std::span<std::byte> memory, DType dtype);
  std::byte* data() const { return memory_.data(); }
  std::size_t bytes() const { return memory_.size(); }

  /// As many matrices [n, k] as fit.
  PackedWeight matrices(const Backend& backend, std::int64_t n, std::int64_t k) const;

 private:
  std::span<std::byte> memory_;
};

}  // namespace helix
