// The emulated GPU as the device under test.
#include "backend/device_under_test.hpp"
#include "cuda/emulated_backend.hpp"
#include "simt/every_order.hpp"

namespace helix::testing {

Backend& device() {
  static EmulatedBackend backend;
  return backend;
}

void in_every_order_of_threads(const std::function<void()>& body) {
  simt::in_every_order(body);
}

}  // namespace helix::testing
