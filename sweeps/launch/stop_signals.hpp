// Signals that ask a run to end: the row in flight is finished and written, then all ranks leave together.
#pragma once

#include <mpi.h>
#include <signal.h>

#include <array>
#include <string>

namespace helix {

/// While it lives, the first SIGTERM (Slurm's time limit), SIGINT (Ctrl-C) or SIGUSR1 (which mpirun hands on
/// to its ranks, and batch systems send ahead of a limit) is only noted; the second of a kind ends the
/// process at once.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The name of a signal that any rank of `comm` got, empty if none did. Collective: all ranks get the same
  /// answer, whenever and wherever a signal came in.
  std::string agreed(MPI_Comm comm) const;

 private:
  std::array<struct sigaction, 3> before_{};
};

/// Has this rank got a signal that a StopSignals noted?
bool stop_requested();

}  // namespace helix
