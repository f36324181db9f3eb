// The largest numbers that a config.json may hold: far above any published model, and low enough that 64 bits
// count the values of a layer.
#pragma once

#include "roofline/base/json_fields.hpp"

namespace helix::limits {

inline constexpr WholeLimits hidden{1, 1 << 20};
inline constexpr WholeLimits ffn{1, 1 << 22};
inline constexpr WholeLimits vocab{1, 1 << 24};
inline constexpr WholeLimits layers{1, 1 << 12};
inline constexpr WholeLimits heads{1, 1 << 14};
inline constexpr WholeLimits head_dim{1, 1 << 14};
inline constexpr WholeLimits rank{1, 1 << 16};
inline constexpr WholeLimits experts{1, 1 << 14};
inline constexpr WholeLimits tokens{1, std::int64_t{1} << 40};
inline constexpr WholeLimits only_one{1, 1};
inline constexpr RealLimits factor{1e-6, 1e6};
inline constexpr RealLimits eps{0.0, 0.1};

/// The same with zero.
constexpr WholeLimits or_none(WholeLimits limits) {
  return {0, limits.max};
}

}  // namespace helix::limits
