#include "simt/fiber.hpp"

#include <boost/context/preallocated.hpp>
#include <boost/context/stack_context.hpp>
#include <utility>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace helix::simt {
namespace {

#ifdef __SANITIZE_ADDRESS__
void start_switch(void** fake_stack, const void* bottom, std::size_t bytes) {
  __sanitizer_start_switch_fiber(fake_stack, bottom, bytes);
}
void finish_switch(void* fake_stack, const void** bottom, std::size_t* bytes) {
  __sanitizer_finish_switch_fiber(fake_stack, bottom, bytes);
}
#else
void start_switch(void**, const void*, std::size_t) {}
void finish_switch(void*, const void**, std::size_t*) {}
#endif

/// The Fiber owns the stack.
struct KeepStack {
  void deallocate(boost::context::stack_context&) const {}
};

}  // namespace

void Fiber::start(std::function<void()> body) {
  namespace ctx = boost::context;
  if (!stack_) stack_.reset(new std::byte[kStackBytes]);
  body_ = std::move(body);
  ctx::stack_context stack;
  stack.size = kStackBytes;
  stack.sp = stack_.get() + kStackBytes;
  context_ = ctx::fiber(std::allocator_arg, ctx::preallocated(stack.sp, stack.size, stack), KeepStack{},
                        [this](ctx::fiber&& scheduler) {
                          finish_switch(nullptr, &scheduler_stack_, &scheduler_stack_bytes_);
                          scheduler_ = std::move(scheduler);
                          body_();
                          start_switch(nullptr, scheduler_stack_, scheduler_stack_bytes_);
                          return std::move(scheduler_);
                        });
}

void Fiber::resume() {
  void* fake_stack = nullptr;
  start_switch(&fake_stack, stack_.get(), kStackBytes);
  context_ = std::move(context_).resume();
  finish_switch(fake_stack, nullptr, nullptr);
}

void Fiber::yield() {
  start_switch(&fake_stack_, scheduler_stack_, scheduler_stack_bytes_);
  scheduler_ = std::move(scheduler_).resume();
  finish_switch(fake_stack_, &scheduler_stack_, &scheduler_stack_bytes_);
}

}  // namespace helix::simt
