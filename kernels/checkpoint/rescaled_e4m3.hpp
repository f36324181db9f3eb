// fp8 values whose scale becomes another: each of the 256 that a byte holds becomes one of 256.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/ops/fp8.hpp"

namespace helix {

class RescaledE4m3 {
 public:
  /// x becomes x * scale * factor, rounded as to_fp8 does.
  RescaledE4m3(float scale, float factor);

  void translate(const std::byte* from, std::int64_t count, FP8* to) const;

 private:
  alignas(64) std::array<FP8, 128> of_magnitude_;
};

}  // namespace helix
