#include "sweeps/launch/watchdog.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/ops/work_counter.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/launch/launcher.hpp"
#include "sweeps/launch/stop_signals.hpp"

namespace helix {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

std::mutex advice_mutex;
std::string advice;

/// What the other ranks of a node see of one.
struct alignas(64) RankState {
  int rank = 0;                         // in the job
  std::atomic<std::uint64_t> beats{0};  // of its watching thread: its process is not stopped
  std::atomic<std::uint64_t> work{0};
  Activity activity;
};

int rank_of(MPI_Comm comm) {
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(comm, &rank));
  return rank;
}

std::string host_name() {
  std::array<char, MPI_MAX_PROCESSOR_NAME> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

/// Memory that the ranks of `node` share, zeroed; null on all of them if one cannot have it (containers may
/// keep ranks of a host apart). Collective.
void* share_memory(MPI_Comm node, std::size_t bytes) {
  const int rank = rank_of(node);
  std::string name;
  if (rank == 0) {
    name = fmt::format("/helix-bench.{}.{}", getpid(), Clock::now().time_since_epoch().count());
  }
  name = broadcast_text(name, 0, node);
  int descriptor = rank == 0 ? shm_open(name.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600) : -1;
  if (descriptor >= 0 && ftruncate(descriptor, static_cast<off_t>(bytes)) != 0) {
    close(descriptor);
    descriptor = -1;
  }
  HELIX_MPI(MPI_Barrier(node));
  if (rank != 0) descriptor = shm_open(name.c_str(), O_RDWR, 0600);
  void* memory = MAP_FAILED;
  if (descriptor >= 0) {
    memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
  }
  int everywhere = memory != MAP_FAILED ? 1 : 0;
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &everywhere, 1, MPI_INT, MPI_MIN, node));
  if (rank == 0) shm_unlink(name.c_str());
  if (everywhere != 0) return memory;
  if (memory != MAP_FAILED) munmap(memory, bytes);
  return nullptr;
}

}  // namespace

struct Watchdog::Board {
  Board(MPI_Comm node, int ranks) {
    bytes_ = sizeof(Header) + sizeof(RankState) * static_cast<std::size_t>(ranks);
    memory_ = share_memory(node, bytes_);
    shared_ = memory_ != nullptr;
    if (!shared_) {
      ranks = 1;
      memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
      if (memory_ == MAP_FAILED) throw std::bad_alloc();
    }
    ranks_ = ranks;
    if (!shared_ || rank_of(node) == 0) {
      new (memory_) Header;
      for (int r = 0; r < ranks; ++r) new (&state(r)) RankState;
    }
    HELIX_MPI(MPI_Barrier(node));
  }
  ~Board() { munmap(memory_, bytes_); }
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  RankState& state(int rank) {
    return reinterpret_cast<RankState*>(static_cast<std::byte*>(memory_) + sizeof(Header))[rank];
  }
  int ranks() const { return ranks_; }
  bool shared() const { return shared_; }
  /// True for the first who asks.
  bool may_speak() { return !header().spoken.exchange(true); }
  bool may_guard() { return !header().guarded.exchange(true); }
  /// The job ends as it should.
  std::atomic<bool>& finished() { return header().finished; }

 private:
  struct alignas(64) Header {
    std::atomic<bool> spoken{false}, guarded{false}, finished{false};
  };
  Header& header() { return *static_cast<Header*>(memory_); }

  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
  int ranks_ = 1;
  bool shared_ = false;
};

void advise_on_stall(const std::string& text) {
  const std::lock_guard lock(advice_mutex);
  advice = text;
}

Watchdog::Watchdog(MPI_Comm comm, double stall_timeout_s) : comm_(comm), timeout_s_(stall_timeout_s) {
  if (timeout_s_ <= 0) return;
  const int rank = rank_of(comm);
  int ranks = 1, first_rank = rank, node_ranks = 1;
  MPI_Comm node = MPI_COMM_NULL;
  HELIX_MPI(MPI_Comm_size(comm, &ranks));
  HELIX_MPI(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node));
  HELIX_MPI(MPI_Comm_size(node, &node_ranks));
  HELIX_MPI(MPI_Bcast(&first_rank, 1, MPI_INT, 0, node));
  board_ = std::make_unique<Board>(node, node_ranks);
  node_rank_ = board_->shared() ? rank_of(node) : 0;
  node_ranks_ = board_->ranks();
  whole_job_ = node_ranks_ == ranks;
  first_node_ = board_->shared() ? first_rank == 0 : rank == 0;
  HELIX_MPI(MPI_Comm_free(&node));
  RankState& mine = board_->state(node_rank_);
  mine.rank = rank;
  keep_activity_in(&mine.activity);
  seen_.resize(static_cast<std::size_t>(node_ranks_));
  thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    board_->finished() = true;
  }
  ending_.notify_all();
  thread_.join();
  keep_activity_in(nullptr);
}

bool Watchdog::ends_within(double seconds, std::unique_lock<std::mutex>& lock) {
  // The launcher kills its ranks a second after it passed on a signal, and a busy machine wakes us late.
  constexpr double step_s = 0.1;
  for (; seconds > 0; seconds -= step_s) {
    const std::chrono::duration<double> step(std::min(seconds, step_s));
    if (ending_.wait_for(lock, step, [&] { return ended_; })) return true;
    if (stop_requested() && board_->may_guard()) end_launcher_with_me(board_->finished());
  }
  return false;
}

void Watchdog::watch() {
  const double tick_s = std::clamp(timeout_s_ / 20, 0.01, 0.5);
  RankState& mine = board_->state(node_rank_);
  std::uint64_t work_before = 0;
  double stalled_s = 0;
  Clock::time_point before = Clock::now();
  std::unique_lock lock(mutex_);
  while (!ends_within(tick_s, lock)) {
    ++mine.beats;
    mine.work = work_done.load(std::memory_order_relaxed);
    // Time in which this process was stopped itself, or the machine slept, is no standstill of the others.
    const Clock::time_point now = Clock::now();
    const double passed_s = std::min(std::chrono::duration<double>(now - before).count(), 4 * tick_s);
    before = now;

    std::uint64_t work = 0, work_of_all = 0;
    int workers = 0, first_worker = 0;
    bool watched = true;
    for (int r = node_ranks_ - 1; r >= 0; --r) {
      RankState& state = board_->state(r);
      Seen& s = seen_[static_cast<std::size_t>(r)];
      const std::uint64_t beats = state.beats;
      s.silent_s = beats == s.beats ? s.silent_s + passed_s : 0;
      s.beats = beats;
      watched = watched && !state.activity.unwatched;
      work_of_all += state.work;
      if (state.activity.bystander) continue;
      ++workers;
      first_worker = r;
      work += state.work;
    }
    if (workers == 0) work = work_of_all;
    stalled_s = work == work_before && watched ? stalled_s + passed_s : 0;
    work_before = work;
    // Ranks that wait for the work of other nodes do not see it, and are patient.
    constexpr double patience = 10;
    if (stalled_s < timeout_s_ * (workers == 0 && !whole_job_ ? patience : 1)) continue;

    const auto stopped = [&](const Seen& s) { return s.silent_s > std::min(timeout_s_ / 2, 10.0); };
    const auto found = std::ranges::find_if(seen_, stopped);
    end_job(found != seen_.end() ? static_cast<int>(found - seen_.begin()) : first_worker,
            found != seen_.end());
  }
}

void Watchdog::end_job(int rank, bool stopped) {
  // The node of rank 0 speaks; others only if they live on, so that its word does not reach them.
  if (!board_->may_speak()) std::this_thread::sleep_for(10s);
  if (!first_node_) std::this_thread::sleep_for(5s);
  const RankState& stuck = board_->state(rank);
  std::string further;
  {
    const std::lock_guard lock(advice_mutex);
    further = advice;
  }
  std::fputs(
      fmt::format("helix-bench: no progress for {:g} s: {} rank {}{}, {}{}\n", timeout_s_, host_name(),
                  stuck.rank, stopped ? " (its process does not run)" : "", stuck.activity.text(), further)
          .c_str(),
      stderr);
  std::fflush(stderr);
  if (board_->may_guard()) end_launcher_with_me(board_->finished());
  // Should the abort wait for something itself.
  std::thread([] {
    std::this_thread::sleep_for(5s);
    std::_Exit(3);
  }).detach();
  MPI_Abort(comm_, 3);
  std::_Exit(3);
}

}  // namespace helix
