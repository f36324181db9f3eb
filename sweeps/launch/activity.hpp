// What this process is doing, in words: for the message of whoever finds it stuck or out of memory.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include "kernels/engine/decode_engine.hpp"

namespace helix {

/// Plain memory, so that other processes of a node can read it where it is shared. Only its
/// own process writes.
struct Activity {
  std::array<char, 256> row{};          // id of the row that is worked on; empty: none
  std::array<char, 128> phase{};        // "loading weights"
  std::atomic<std::int64_t> layer{-1};  // within a step: the layer that runs, -1 before the first
  std::atomic<int> phase_done{-1};      // within a step: the Phase that was done last, -1: none, or no step
  /// It waits for the work of others, however long that takes: they have to make progress, not this one.
  std::atomic<bool> bystander{false};
  /// It waits for the user, who may take any time: for the reader of its output.
  std::atomic<bool> unwatched{false};

  /// "row 'ID', phase sampling: layer 3 after attn".
  std::string text() const;
};

/// That of this process.
Activity& activity();
/// From now on it is kept there; null: in memory of its own again.
void keep_activity_in(Activity* place);

// Each of these is progress.
void working_on_row(std::string_view id);
void working_on(std::string_view phase);

/// While it lives, a flag of the activity is set.
class ActivityFlag {
 public:
  explicit ActivityFlag(std::atomic<bool> Activity::*flag, bool value = true)
      : flag_(flag), before_((activity().*flag).exchange(value)) {}
  ~ActivityFlag() { (activity().*flag_).store(before_); }
  ActivityFlag(const ActivityFlag&) = delete;
  ActivityFlag& operator=(const ActivityFlag&) = delete;

 private:
  std::atomic<bool> Activity::*flag_;
  bool before_;
};

/// Hands on what a step tells its observer, and notes how far it is.
class WatchedStep final : public StepObserver {
 public:
  explicit WatchedStep(StepObserver& observer) : observer_(observer) {}
  void step_begin() override;
  void phase_done(Phase phase) override;
  void draft_done(std::int64_t run) override { observer_.draft_done(run); }
  void layers_begin() override;
  void layer_done(std::int64_t layer) override;
  void step_end() override { observer_.step_end(); }

 private:
  StepObserver& observer_;
};

/// What `error` says; of memory that is not to be had, how much was wanted and what for.
std::string message_of(const std::exception& error);
/// Size of the last allocation that failed: set by the program's operator new.
inline std::atomic<std::size_t> refused_bytes{0};

}  // namespace helix
