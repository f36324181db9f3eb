#include "simt/grid.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "simt/fault.hpp"

namespace helix::simt {
namespace {

bool same(const std::source_location& a, const std::source_location& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

std::string text(const std::source_location& site) {
  const std::string path = site.file_name();
  return path.substr(path.rfind('/') + 1) + ':' + std::to_string(site.line());
}

}  // namespace

Schedule& schedule() {
  static Schedule value;
  return value;
}

Grid& grid() {
  static Grid value;
  return value;
}

template <typename T>
void Grid::order(std::vector<T>& items) {
  if (schedule().order == Order::reverse) std::reverse(items.begin(), items.end());
  if (schedule().order == Order::shuffled) std::shuffle(items.begin(), items.end(), random_);
}

void Grid::run(Dim3 grid, Dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel) {
  thread_count_ = std::size_t{block.x} * block.y * block.z;
  if (thread_count_ == 0 || thread_count_ > 1024 || thread_count_ % kLanes != 0)
    throw Fault("a block of " + std::to_string(thread_count_) +
                " threads, not full warps up to 1024 threads");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535)
    throw Fault("a grid that CUDA does not launch");
  if (threads_.size() < thread_count_) threads_.resize(thread_count_);
  random_.seed(schedule().seed);
  block_dim = block;
  grid_dim = grid;

  std::vector<Dim3> blocks;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) blocks.emplace_back(x, y, z);
  order(blocks);
  for (const Dim3& index : blocks) {
    block_index = index;
    shared_.begin_block(shared_bytes, static_cast<int>(thread_count_));
    run_block(kernel);
  }
}

void Grid::run_block(const std::function<void()>& kernel) {
  ended_ = at_block_ = 0;
  aborting_ = false;
  failure_ = nullptr;
  warps_.assign(thread_count_ / kLanes, Warp{});
  warp_order_.resize(warps_.size());
  lane_order_.resize(kLanes);
  ++block_epoch_;
  std::iota(warp_order_.begin(), warp_order_.end(), 0u);
  std::iota(lane_order_.begin(), lane_order_.end(), 0u);
  order(warp_order_);
  order(lane_order_);
  for (std::size_t t = 0; t < thread_count_; ++t) {
    const auto i = static_cast<unsigned>(t);
    threads_[t].index = {i % block_dim.x, i / block_dim.x % block_dim.y, i / block_dim.x / block_dim.y};
    threads_[t].state = State::ready;
    threads_[t].fiber.start([this, &kernel] { body(kernel); });
  }
  while (ended_ < thread_count_) {
    bool progress = false;
    for (const std::size_t warp : warp_order_) progress |= run_warp(warp);
    if (!progress && failure_ == nullptr && ended_ < thread_count_) {
      try {
        stuck();
      } catch (...) {
        failure_ = std::current_exception();
      }
    }
    if (failure_ != nullptr) {
      abort_block();
      std::rethrow_exception(failure_);
    }
  }
}

/// Until all its threads wait for other warps or have ended.
bool Grid::run_warp(std::size_t warp) {
  bool progress = false;
  for (bool ran = true; ran;) {
    ran = false;
    for (const std::size_t lane : lane_order_) {
      const std::size_t t = warp * kLanes + lane;
      if (failure_ != nullptr || threads_[t].state != State::ready) continue;
      resume(t);
      ran = progress = true;
    }
  }
  return progress;
}

void Grid::resume(std::size_t thread) {
  current_ = static_cast<int>(thread);
  thread_index = threads_[thread].index;
  threads_[thread].fiber.resume();
}

void Grid::body(const std::function<void()>& kernel) {
  try {
    if (!aborting_) kernel();
  } catch (const Aborted&) {
  } catch (...) {
    if (failure_ == nullptr) failure_ = std::current_exception();
  }
  threads_[static_cast<std::size_t>(current_)].state = State::ended;
  ++ended_;
}

/// Unwinds the stacks of all threads that have not ended.
void Grid::abort_block() {
  aborting_ = true;
  for (std::size_t t = 0; t < thread_count_; ++t)
    if (threads_[t].state != State::ended) resume(t);
}

std::string Grid::place(std::size_t thread) const {
  const Thread& t = threads_[thread];
  const std::string who = "thread " + std::to_string(thread);
  if (t.state == State::ended) return who + " has ended";
  return who + " waits at " + text(t.site) + " for its " + (t.state == State::at_block ? "block" : "warp");
}

void Grid::stuck() const {
  for (std::size_t t = 1; t < thread_count_; ++t)
    if (threads_[t].state != threads_[0].state || !same(threads_[t].site, threads_[0].site))
      throw Fault("divergent threads: " + place(0) + ", " + place(t));
  throw Fault("divergent threads: " + place(0));
}

Moment Grid::now() const {
  const auto warp = current_ / kLanes;
  return {block_epoch_, warps_[static_cast<std::size_t>(warp)].epoch, static_cast<std::int16_t>(current_),
          static_cast<std::int16_t>(warp)};
}

void Grid::wait(State state, const std::source_location& site) {
  Thread& t = threads_[static_cast<std::size_t>(current_)];
  t.state = state;
  t.site = site;
  t.fiber.yield();
  if (aborting_) throw Aborted{};
}

bool Grid::last_of_warp(const std::source_location& site) {
  const std::size_t first = static_cast<std::size_t>(current_) / kLanes * kLanes;
  Warp& warp = warps_[first / kLanes];
  for (std::size_t t = first; t < first + kLanes; ++t)
    if (threads_[t].state == State::at_warp && !same(threads_[t].site, site))
      throw Fault("divergent warp: thread " + std::to_string(current_) + " is at " + text(site) + ", " +
                  place(t));
  if (++warp.arrived < kLanes) return false;
  warp.arrived = 0;
  return true;
}

void Grid::release_warp() {
  const std::size_t first = static_cast<std::size_t>(current_) / kLanes * kLanes;
  for (std::size_t t = first; t < first + kLanes; ++t) threads_[t].state = State::ready;
}

void Grid::warp_barrier(const std::source_location& site) {
  struct Nothing {};
  collective<Nothing>(Nothing{}, site, [this](const auto&, const auto&) {
    ++warps_[static_cast<std::size_t>(current_ / kLanes)].epoch;
  });
}

void Grid::block_barrier(const std::source_location& site) {
  for (std::size_t t = 0; t < thread_count_; ++t) {
    if (threads_[t].state == State::at_block && !same(threads_[t].site, site))
      throw Fault("divergent barriers: thread " + std::to_string(current_) + " is at " + text(site) + ", " +
                  place(t));
    if (threads_[t].state == State::at_block) break;  // all that wait wait at one place
  }
  if (++at_block_ < thread_count_) {
    wait(State::at_block, site);
    return;
  }
  at_block_ = 0;
  ++block_epoch_;
  for (std::size_t t = 0; t < thread_count_; ++t) threads_[t].state = State::ready;
}

}  // namespace helix::simt
