// The CPU as the device under test.
#include "backend/device_under_test.hpp"
#include "tests/kernels/cpu/isa_scope.hpp"

namespace helix::testing {
namespace {

int threads = 2;

/// Runs the body on so many threads.
void on_threads(int count, const std::function<void()>& body) {
  const struct Restore {
    int before = threads;
    ~Restore() { threads = before; }
  } restore;
  threads = count;
  INFO("threads " << count);
  body();
}

}  // namespace

// Backends differ in nothing but their threads: what one has allocated, another may use.
Backend& device() {
  static const std::unique_ptr<Backend> backends[] = {make_cpu_backend(1), make_cpu_backend(2),
                                                      make_cpu_backend(3)};
  return *backends[threads - 1];
}

bool emulated() {
  return false;
}

void on_every_path(const std::function<void()>& body) {
  on_every_isa(body);
}

void in_every_order_of_threads(const std::function<void()>& body) {
  for (const int count : {1, 2, 3}) on_threads(count, body);
}

std::size_t guard_bytes() {
  return 4096;
}

}  // namespace helix::testing
