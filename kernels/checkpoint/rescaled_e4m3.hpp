// fp8 values whose scale becomes another, or none: each of the 256 that a byte holds becomes one of 256.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/fp8.hpp"

namespace helix {

/// T: FP8 or BF16.
template <class T>
class RescaledE4m3 {
 public:
  /// x becomes x * scale * factor, rounded as to_fp8 or to_bf16 does.
  RescaledE4m3(float scale, float factor);

  void translate(const std::byte* from, std::int64_t count, T* to) const;

 private:
  alignas(64) std::array<T, 128> of_magnitude_;
};

extern template class RescaledE4m3<FP8>;
extern template class RescaledE4m3<BF16>;

}  // namespace helix
