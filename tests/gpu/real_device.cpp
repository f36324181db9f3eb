// The first GPU of this machine as the device under test.
#include <stdexcept>

#include "backend/device_under_test.hpp"
#include "kernels/cuda/cuda_backend.hpp"

namespace helix::testing {

Backend& device() {
  static const std::unique_ptr<Backend> backend = [] {
    const cuda::GpuChoice choice = cuda::choose_gpu(0, 1);
    if (!choice.ok()) throw std::runtime_error(choice.problem);
    return make_cuda_backend(choice.gpu);
  }();
  return *backend;
}

bool emulated() {
  return false;
}

void on_every_path(const std::function<void()>& body) {
  body();
}

// The hardware's order is what it is.
void in_every_order_of_threads(const std::function<void()>& body) {
  body();
}

std::size_t guard_bytes() {
  return 4096;
}

}  // namespace helix::testing
