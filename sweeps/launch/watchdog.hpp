// Ends a run that has come to a standstill, which MPI does not: a link that stays down or a rank that was
// stopped leaves all others waiting for ever.
#pragma once

#include <mpi.h>

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace helix {

/// While it lives, a thread of every rank watches the ranks of its node, in memory that they share. If none
/// of them has done anything for so long (see work_counter.hpp and activity.hpp; waiting in MPI does not
/// count), one of them says in a line which host, rank, row and phase is stuck, and takes the job down with
/// exit code 3. The threads use no MPI before that: they work while a rank is blocked in it.
class Watchdog {
 public:
  /// Collective over `comm`, whose ranks are the job. 0 seconds: watches nothing.
  Watchdog(MPI_Comm comm, double stall_timeout_s);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Board;  // of the ranks of a node
  struct Seen {  // of a rank
    std::uint64_t beats = 0;
    double silent_s = 0;
  };

  void watch();
  /// True if this ends meanwhile. Guards the launcher as soon as the run is to stop.
  bool ends_within(double seconds, std::unique_lock<std::mutex>& lock);
  [[noreturn]] void end_job(int rank, bool stopped);

  MPI_Comm comm_;
  double timeout_s_;
  bool whole_job_ = true;   // all ranks are on this node
  bool first_node_ = true;  // rank 0 is on this node
  int node_rank_ = 0, node_ranks_ = 1;
  std::unique_ptr<Board> board_;
  std::vector<Seen> seen_;  // made before the thread, whose lack of memory nobody would catch
  std::mutex mutex_;
  std::condition_variable ending_;
  bool ended_ = false;
  std::thread thread_;
};

/// What a line about a standstill also says: how the run is taken up again.
void advise_on_stall(const std::string& advice);

}  // namespace helix
