// Runs a grid: its blocks one after the other, the threads of a block as fibers that switch where they wait
// for each other. Barriers and warp collectives must be reached by all their threads at the same place in the
// source; a thread that never comes is a fault.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <random>
#include <source_location>
#include <string>
#include <vector>

#include "simt/fiber.hpp"
#include "simt/shared_memory.hpp"

namespace helix::simt {

struct Dim3 {
  unsigned x, y, z;
  constexpr Dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

constexpr int kLanes = 32;

/// In which order blocks, warps and lanes run; results must not depend on it.
enum class Order { forward, reverse, shuffled };

struct Schedule {
  Order order = Order::forward;
  std::uint32_t seed = 1;  // of `shuffled`
};
/// Of all launches.
Schedule& schedule();

/// What a kernel sees of itself, set at every switch.
inline Dim3 thread_index, block_index, block_dim, grid_dim;

class Grid {
 public:
  /// Throws Fault. Not re-entrant.
  void run(Dim3 grid, Dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel);

  // In a kernel:
  SharedMemory& shared() { return shared_; }
  Moment now() const;
  int thread() const { return current_; }
  void block_barrier(const std::source_location& site);
  void warp_barrier(const std::source_location& site);

  template <typename T>
  using Lanes = std::array<T, kLanes>;
  /// Lane i's result of `combine(in, out)`, which runs once, when the warp's last lane has come: in and out
  /// are arrays of pointers to the lanes' values.
  template <typename Out, typename In, typename Combine>
  Out collective(const In& in, const std::source_location& site, const Combine& combine) {
    Out out{};
    Warp& warp = warps_[static_cast<std::size_t>(current_ / kLanes)];
    warp.in[current_ % kLanes] = &in;
    warp.out[current_ % kLanes] = &out;
    if (!last_of_warp(site)) {
      wait(State::at_warp, site);
      return out;
    }
    Lanes<const In*> ins;
    Lanes<Out*> outs;
    for (int i = 0; i < kLanes; ++i) {
      ins[i] = static_cast<const In*>(warp.in[i]);
      outs[i] = static_cast<Out*>(warp.out[i]);
    }
    combine(ins, outs);
    release_warp();
    return out;
  }

 private:
  enum class State { ready, at_block, at_warp, ended };
  struct Thread {
    Fiber fiber;
    Dim3 index;
    State state = State::ended;
    std::source_location site;
  };
  struct Warp {
    Lanes<const void*> in{};
    Lanes<void*> out{};
    int arrived = 0;
    std::uint32_t epoch = 0;
  };
  struct Aborted {};

  void run_block(const std::function<void()>& kernel);
  void body(const std::function<void()>& kernel);
  bool run_warp(std::size_t warp);
  void resume(std::size_t thread);
  void abort_block();
  [[noreturn]] void stuck() const;
  std::string place(std::size_t thread) const;
  template <typename T>
  void order(std::vector<T>& items);

  void wait(State state, const std::source_location& site);
  bool last_of_warp(const std::source_location& site);
  void release_warp();

  SharedMemory shared_;
  std::vector<Thread> threads_;
  std::size_t thread_count_ = 0, ended_ = 0, at_block_ = 0;
  std::vector<Warp> warps_;
  std::vector<std::size_t> warp_order_;
  std::vector<std::size_t> lane_order_;
  std::uint32_t block_epoch_ = 1;
  int current_ = 0;
  bool aborting_ = false;
  std::exception_ptr failure_;
  std::mt19937 random_;
};

/// The one device.
Grid& grid();

}  // namespace helix::simt
