// The cases of this folder say what any backend must do. They are compiled three times: into test_kernels for
// the CPU, into test_cuda, where the CUDA kernels run on the emulated GPU, and into test_gpu for a real one.
// What only one of them has is tested in its own folder.
#pragma once

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "kernels/ops/backend.hpp"

namespace helix::testing {

/// The backend under test.
Backend& device();

/// Is it so slow that long cases must be left out?
bool emulated();

/// Runs the body once for each way in which the device computes: on the CPU with each of its instruction
/// sets. A GPU has one.
void on_every_path(const std::function<void()>& body);

/// Runs the body once for every order of blocks and threads that can be asked for, on the CPU for several
/// numbers of threads; results must not depend on it.
void in_every_order_of_threads(const std::function<void()>& body);

/// What lies behind every array to see whether it is written to; 0 where the device itself notices who leaves
/// an array, or reads what nobody wrote.
std::size_t guard_bytes();

struct Unwritten {};
inline constexpr Unwritten unwritten;

/// An array in device memory.
template <class T>
class DeviceVector {
 public:
  /// NaN in every type of number, if it is anything.
  DeviceVector(Unwritten, std::size_t count)
      : count_(count), memory_(device().allocate(std::max<std::size_t>(1, bytes()) + guard_bytes())) {
    if (guard_bytes() > 0) device().set_bytes(memory_->data(), 0xff, memory_->bytes());
  }
  explicit DeviceVector(const std::vector<T>& values) : DeviceVector(unwritten, values.size()) {
    device().copy_to_device(data(), values.data(), bytes());
  }
  DeviceVector(std::size_t count, T value) : DeviceVector(std::vector<T>(count, value)) {}
  ~DeviceVector() {
    std::vector<std::byte> behind(guard_bytes());
    device().copy_to_host(behind.data(), memory_->data() + memory_->bytes() - behind.size(), behind.size());
    if (std::ranges::count(behind, std::byte{0xff}) != static_cast<std::ptrdiff_t>(behind.size()))
      FAIL_CHECK("written behind the end of an array");
  }
  DeviceVector(const DeviceVector&) = delete;
  DeviceVector& operator=(const DeviceVector&) = delete;

  T* data() const { return reinterpret_cast<T*>(memory_->data()); }
  std::span<T> span() const { return {data(), count_}; }
  std::vector<T> values() const {
    std::vector<T> host(count_);
    device().copy_to_host(host.data(), data(), bytes());
    return host;
  }
  void write(std::size_t first, std::span<const T> values) const {
    device().copy_to_device(data() + first, values.data(), values.size_bytes());
  }

 private:
  std::size_t bytes() const { return count_ * sizeof(T); }

  std::size_t count_;
  std::unique_ptr<Buffer> memory_;
};

}  // namespace helix::testing
