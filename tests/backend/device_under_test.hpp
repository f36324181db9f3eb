// The cases of this folder say what any GPU backend must do. They are compiled twice: into test_cuda, where
// the kernels run on the emulated GPU, and into test_gpu for a real one.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "kernels/ops.hpp"

namespace helix::testing {

/// The backend under test, one for the whole program.
Backend& device();

/// Runs the body once for every order of blocks and threads that can be asked for; results must not depend on
/// it.
void in_every_order_of_threads(const std::function<void()>& body);

/// An array in device memory.
template <class T>
class DeviceVector {
 public:
  explicit DeviceVector(const std::vector<T>& values)
      : count_(values.size()), memory_(device().allocate(std::max<std::size_t>(1, count_) * sizeof(T))) {
    device().copy_to_device(memory_->data(), values.data(), count_ * sizeof(T));
  }
  DeviceVector(std::size_t count, T value) : DeviceVector(std::vector<T>(count, value)) {}

  T* data() const { return reinterpret_cast<T*>(memory_->data()); }
  std::vector<T> values() const {
    std::vector<T> host(count_);
    device().copy_to_host(host.data(), data(), count_ * sizeof(T));
    return host;
  }

 private:
  std::size_t count_;
  std::unique_ptr<Buffer> memory_;
};

}  // namespace helix::testing
