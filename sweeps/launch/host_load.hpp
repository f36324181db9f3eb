// What else runs on this machine: CPU time of all processes and of the hypervisor, less that of our ranks.
#pragma once

#include <mpi.h>

#include <optional>
#include <string>

#include "sweeps/results/result_row.hpp"

namespace helix {

/// Seconds of CPU time that all processes of the machine have used, and that its host gave to others
/// ("steal"): the first line of Linux's /proc/stat. Nothing: not known here.
std::optional<double> machine_cpu_seconds(const std::string& proc_stat);

/// Others' share of a machine from its construction on. Collective over `ranks`, all of which are
/// on this machine.
class HostLoad {
 public:
  explicit HostLoad(MPI_Comm ranks);
  /// CPUs that others kept busy on average so far; 0 where the system does not say. The same on every rank.
  double others_cpus() const;

 private:
  MPI_Comm ranks_;
  double begin_s_, ours_s_;
  std::optional<double> all_s_;
};

/// Of this machine.
int online_cpus();

/// What a row's reason says of others that kept that many of the machine's CPUs busy meanwhile; empty:
/// nothing that would matter.
std::string load_caveat(double others_cpus, int cpus);

/// What it says of a median that is not known well: its standard error, widened by the samples'
/// autocorrelation, is more than 2 %. Empty: it is known.
std::string noise_caveat(const Measurement& measurement);

/// An ok row of which neither is said.
bool trusted(const ResultRow& row);

}  // namespace helix
