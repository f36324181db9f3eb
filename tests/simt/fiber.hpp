// One emulated thread: a Boost.Context fiber on a stack that is used again by the next block, announced to
// the address sanitizer at every switch.
#pragma once

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <functional>
#include <memory>

namespace helix::simt {

class Fiber {
 public:
  /// The next resume() starts `body`. Only for a fiber that has ended or never begun.
  void start(std::function<void()> body);
  /// On the scheduler's stack: runs until the fiber yields or ends.
  void resume();
  /// On the fiber's stack: back to the scheduler.
  void yield();
  bool running() const { return static_cast<bool>(context_); }

 private:
  static constexpr std::size_t kStackBytes = 128 * 1024;

  std::unique_ptr<std::byte[]> stack_;
  std::function<void()> body_;
  boost::context::fiber context_, scheduler_;
  const void* scheduler_stack_ = nullptr;
  std::size_t scheduler_stack_bytes_ = 0;
  void* fake_stack_ = nullptr;
};

}  // namespace helix::simt
