// The emulated GPU as the device under test.
#include "backend/device_under_test.hpp"
#include "cuda/emulated_backend.hpp"
#include "cuda/fake_kernel_driver.hpp"
#include "simt/every_order.hpp"

namespace helix::testing {

Backend& device() {
  static EmulatedBackend backend(cuda::kDatacentreGpu);
  static const bool with_other_kernels = [] {
    backend.add_provider(fake_trtllm_gen(cuda::kDatacentreGpu));
    return true;
  }();
  static_cast<void>(with_other_kernels);
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
