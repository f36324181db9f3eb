// Timing calls on all ranks of a group at once, and the cost curve through such timings.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/ops.hpp"
#include "roofline/system_spec.hpp"

namespace helix {

/// One timed call: what it moves and computes, and how long it took.
struct Probe {
  double bytes = 0, flops = 0, us = 0;
};

class Prober {
 public:
  Prober(Backend& backend, MPI_Comm group, double seconds)
      : backend_(backend), group_(group), seconds_(seconds) {}

  /// Median microseconds of a call, all ranks calling at once, on the slowest rank. `call(i)` gets the number
  /// of the call, to turn to other data each time.
  double median_us(const std::function<void(std::int64_t)>& call) const;
  /// The largest value of all ranks, and the least.
  double slowest(double us) const;
  double least(double rate) const { return -slowest(-rate); }
  /// How long a probe should take.
  double seconds() const { return seconds_; }

 private:
  Backend& backend_;
  MPI_Comm group_;
  double seconds_;
};

/// The rate whose curve t = fixed + ((bytes / bw)^p + (flops / peak)^p)^(1/p) comes closest to the probes in
/// the worst case. bw and peak are what the best probe reached of each; the norm says how well the two
/// overlap.
KernelRate fit(KernelFamily family, DType dtype, double fixed_us, const std::vector<Probe>& probes);

/// Device memory that every probe walks through, so that what it reads is cold: several times the last-level
/// cache, filled with small finite bf16 values.
class ColdMemory {
 public:
  ColdMemory(Backend& backend, std::size_t bytes, std::unique_ptr<Buffer>& memory);
  std::byte* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

  /// As many matrices [n, k] as fit; their values are what the memory holds.
  PackedWeight matrices(const Backend& backend, std::int64_t n, std::int64_t k, DType dtype) const;

 private:
  std::byte* data_;
  std::size_t bytes_;
};

}  // namespace helix
