// MPI from start to end, and how a rank's error becomes the end of the whole job: one message, never a hang.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>

namespace helix {

/// The run is broken off, and every rank knows and throws this: exit code 3 and one message.
struct BrokenOff : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// The rank that the launcher gave this process (Open MPI, PMI, Slurm), 0 without a launcher.
/// Needs no MPI_Init.
int launched_rank();

/// How many ranks the launcher that started this process says there are, by the variable that says so: those
/// of the launch, or at least its own number and those below. Empty without a launcher. A batch script's
/// SLURM_NTASKS is the last to be asked: a launcher of fewer ranks inside the script says so itself.
struct LaunchedRanks {
  std::string variable;
  int ranks = 1;
};
LaunchedRanks launched_ranks();

/// Prints "helix-bench: message" on stderr, from rank 0 of the launch alone, and returns the exit code 2.
/// Other ranks first give rank 0 the time to print: a launcher ends all ranks at the first non-zero exit.
int leave_with_usage_error(const std::string& message);

/// MPI_Init_thread, body, MPI_Finalize; returns body's exit code. Where the launcher says that there are
/// several ranks and MPI knows of one, the launcher belongs to another MPI library: exit code 2 instead of so
/// many runs of one rank each.
/// UsageError or BrokenOff in body: rank 0 prints it, all ranks finalize and return 2 or 3. They have to be
/// thrown on every rank (see on_root); if another rank does not get there within seconds, the job is
/// aborted instead of waiting for ever. Any other exception takes the job down with exit code 3, naming
/// host, rank and message. A write past the limit on the size of files is an error like a full disk, not a
/// signal that kills.
/// `stall_timeout_s`: a job in which no rank does anything for so long is ended with exit code 3 (see
/// Watchdog); 0: never.
int run_with_mpi(const std::function<int()>& body, double stall_timeout_s = 0);

/// Runs `action` on rank 0 of the world; if it throws, all ranks throw the same (UsageError or else
/// BrokenOff). Collective over the world.
void on_root(const std::function<void()>& action);

}  // namespace helix
