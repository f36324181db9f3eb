// The emulated GPU as the device under test.
#include "backend/device_under_test.hpp"
#include "cuda/emulated_backend.hpp"
#include "simt/every_order.hpp"

namespace helix::testing {

Backend& device() {
  static EmulatedBackend backend(cuda::kDatacentreGpu);
  return backend;
}

bool emulated() {
  return true;
}

void on_every_path(const std::function<void()>& body) {
  body();
}

void in_every_order_of_threads(const std::function<void()>& body) {
  simt::in_every_order(body);
}

std::size_t guard_bytes() {
  return 0;
}

}  // namespace helix::testing
