// Loads and stores of V values at once.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/cuda/device/device.cuh"
#include "kernels/ops/bf16.hpp"

namespace helix::cuda {

/// bf16 values in 16 bytes.
inline constexpr int kVector = 8;

template <int V>
HELIX_DEVICE Vec<BF16, V> load(Global<const BF16> p, std::int64_t i) {
  return (p + i).template as<const Vec<BF16, V>>()[0];
}

template <int V>
HELIX_DEVICE void store(Global<BF16> p, std::int64_t i, const Vec<BF16, V>& x) {
  (p + i).template as<Vec<BF16, V>>()[0] = x;
}

/// On the host: may rows of these pointers, all multiples of `widths` values apart, be read 16 bytes
/// at a time?
inline bool vectorizable(std::initializer_list<const void*> pointers,
                         std::initializer_list<std::int64_t> widths) {
  for (const void* p : pointers) {
    if (reinterpret_cast<std::uintptr_t>(p) % 16 != 0) return false;
  }
  for (const std::int64_t width : widths) {
    if (width % kVector != 0) return false;
  }
  return true;
}

/// Blocks of `threads` for `count` work items.
inline unsigned blocks_for(std::int64_t count, std::int64_t threads) {
  return static_cast<unsigned>((count + threads - 1) / threads);
}

}  // namespace helix::cuda
