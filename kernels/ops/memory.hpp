// Carving one device buffer into the arrays of an engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

#include "kernels/ops/device.hpp"

namespace helix {

/// Hands out consecutive 64-byte aligned arrays. Run a layout once without memory to learn its size,
/// then on memory.
class Carver {
 public:
  explicit Carver(std::byte* base = nullptr) : base_(base) {}
  /// With what the device wants between arrays to notice who leaves one.
  explicit Carver(const Device& device) : guard_bytes_(device.guard_bytes()) {}
  Carver(const Device& device, Buffer& buffer)
      : base_(buffer.data()), guarded_(&buffer), guard_bytes_(device.guard_bytes()) {
    buffer.allow_all();
  }

  template <class T>
  T* take(std::int64_t count) {
    const std::size_t offset = used_, bytes = static_cast<std::size_t>(count) * sizeof(T);
    used_ += (bytes + guard_bytes_ + 63) / 64 * 64;
    layout_ = (layout_ ^ used_) * 0x100000001b3u;  // FNV-1a, a number at a time
    if (guarded_ != nullptr && guard_bytes_ > 0) guarded_->forbid(offset + bytes, used_ - offset - bytes);
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset);
  }
  std::size_t used() const { return used_; }
  /// The same number for arrays of the same sizes, taken in the same order.
  std::uint64_t layout() const { return layout_; }

 private:
  std::byte* base_ = nullptr;
  Buffer* guarded_ = nullptr;
  std::size_t guard_bytes_ = 0, used_ = 0;
  std::uint64_t layout_ = 0xcbf29ce484222325u;
};

/// Bytes of a T, whose constructor takes its arrays from the carver that is its first argument.
template <class T, class... Args>
std::size_t carved_bytes(Carver size, const Args&... args) {
  static_cast<void>(T(size, args...));
  return size.used();
}
/// A T on memory that has these bytes.
template <class T, class... Args>
T carved(std::byte* memory, const Args&... args) {
  Carver carver(memory);
  return T(carver, args...);
}

/// An op's scratch memory is too small for what it is about to write: the caller's mistake.
inline void require_scratch(const char* op, std::int64_t batch, std::size_t bytes,
                            std::span<const std::byte> scratch) {
  if (scratch.size() >= bytes) return;
  throw std::logic_error(std::string(op) + " of " + std::to_string(batch) + " requests needs " +
                         std::to_string(bytes) + " bytes of scratch memory and was given " +
                         std::to_string(scratch.size()));
}

/// Makes `buffer` hold at least `bytes`; keeps the memory it has where that is enough.
inline std::byte* ensure(Device& device, std::unique_ptr<Buffer>& buffer, std::size_t bytes,
                         std::unique_ptr<Buffer> (Device::*allocate)(std::size_t) = &Device::allocate) {
  if (buffer == nullptr || buffer->bytes() < bytes) {
    buffer.reset();  // first give back, then take: the two need not fit together
    buffer = (device.*allocate)(bytes);
  }
  return buffer->data();
}

/// Of a rank's caches.
struct CacheBytes {
  std::size_t kv = 0, index_keys = 0;
  std::size_t sum() const { return kv + index_keys; }
};

/// What engines of one sweep hand on to each other, so that memory is mapped once.
struct EngineMemory {
  std::unique_ptr<Buffer> kv;
  std::unique_ptr<Buffer> index_keys;  // of sparse attention
  std::unique_ptr<Buffer> activations;
};

}  // namespace helix
