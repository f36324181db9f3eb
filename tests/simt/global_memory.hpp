// Device memory: what kernels may touch. Every access must lie in one allocation, and every byte read must
// have been written before, by the host or by a kernel; an allocation's name says whose it is ("rank 1
// inbox"). Races between threads are looked for in shared memory only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

namespace helix::simt {

class Allocation {
 public:
  Allocation(std::string name, std::size_t bytes);
  ~Allocation();
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;

  std::byte* data() const { return bytes_.get(); }
  std::size_t size() const { return state_.size(); }
  const std::string& name() const { return name_; }
  /// What the host wrote through data().
  void mark_written() { state_.assign(state_.size(), written); }

  void check_read(std::size_t offset, std::size_t bytes) const;
  void note_write(std::size_t offset, std::size_t bytes);

  /// Kernels and copies that touch these bytes are faults; they hold a pattern for `check_forbidden`.
  void forbid(std::size_t offset, std::size_t bytes);
  /// What was forbidden holds NaN.
  void allow_all();
  /// That nobody else wrote there either: MPI is not watched.
  void check_forbidden() const;

 private:
  enum State : unsigned char { unwritten, written, forbidden };
  bool any(State state, std::size_t offset, std::size_t bytes) const;

  std::string name_;
  std::unique_ptr<std::byte[]> bytes_;
  std::vector<State> state_;  // one a byte
};

/// Throw Fault unless a kernel may do this at `p`.
void check_global_read(const void* p, std::size_t size, std::size_t alignment);
void note_global_write(void* p, std::size_t size, std::size_t alignment);

/// An array in device memory.
template <typename T>
class DeviceArray {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// Unwritten.
  explicit DeviceArray(std::size_t count, std::string name = "array")
      : memory_(std::make_unique<Allocation>(std::move(name), count * sizeof(T))), count_(count) {}
  explicit DeviceArray(const std::vector<T>& values, std::string name = "array")
      : DeviceArray(values.size(), std::move(name)) {
    std::copy(values.begin(), values.end(), data());
    memory_->mark_written();
  }

  T* data() const { return reinterpret_cast<T*>(memory_->data()); }
  std::size_t size() const { return count_; }
  std::span<T> span() const { return {data(), count_}; }
  T& operator[](std::size_t i) const { return data()[i]; }
  void fill(const T& value) {
    std::fill_n(data(), count_, value);
    memory_->mark_written();
  }
  void mark_written() { memory_->mark_written(); }
  /// One element from the host.
  void write(std::size_t i, const T& value) const {
    data()[i] = value;
    memory_->note_write(i * sizeof(T), sizeof(T));
  }

 private:
  std::unique_ptr<Allocation> memory_;
  std::size_t count_;
};

}  // namespace helix::simt
