// What formulas over counts need.
#pragma once

#include <cstdint>

namespace helix {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}
constexpr double real(std::int64_t x) {
  return static_cast<double>(x);
}

}  // namespace helix
