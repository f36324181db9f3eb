// The order of scores, in which sparse attention chooses the same tokens on every rank and device.
#pragma once

#include <bit>
#include <cstdint>

namespace helix {

/// Rises with the score and is above 0; both zeros are equal, and a NaN is the largest, so that it is seen.
constexpr std::uint32_t score_order(float score) {
  if (score != score) return 0xffffffffu;
  const auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

/// The best of a list: those above `least`, and the first `of_least` of those that are equal to it.
struct BestCut {
  std::uint32_t least = 0;
  std::int64_t of_least = 0;
};

}  // namespace helix
