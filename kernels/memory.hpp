// Carving one device buffer into the arrays of an engine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "kernels/ops.hpp"

namespace helix {

/// Hands out consecutive 64-byte aligned arrays. Run a layout once on a null base to learn its size, then on
/// memory.
class Carver {
 public:
  explicit Carver(std::byte* base = nullptr) : base_(base) {}

  template <class T>
  T* take(std::int64_t count) {
    const std::size_t offset = used_;
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + offset);
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

/// Makes `buffer` hold at least `bytes`; keeps the memory it has where that is enough.
inline std::byte* ensure(Backend& backend, std::unique_ptr<Buffer>& buffer, std::size_t bytes,
                         std::unique_ptr<Buffer> (Backend::*allocate)(std::size_t) = &Backend::allocate) {
  if (buffer == nullptr || buffer->bytes() < bytes) {
    buffer.reset();  // first give back, then take: the two need not fit together
    buffer = (backend.*allocate)(bytes);
  }
  return buffer->data();
}

/// What engines of one sweep hand on to each other, so that memory is mapped once.
struct EngineMemory {
  std::unique_ptr<Buffer> kv;
  std::unique_ptr<Buffer> activations;
};

}  // namespace helix
