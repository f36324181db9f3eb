// The byte by which the CPU's KV cache holds an e4m3 value: its bits inverted and rotated, from the top ~e3
// ~e2 ~e1 ~e0 ~m2 ~m1 ~m0 ~sign. Zero has one sign, and what would be the other zero is NaN (0xff, as in
// e4m3, so that memory filled with it is garbage that shows). This way all values whose bf16 is no linear
// function of their bits, the subnormals, zero and NaN, have an upper nibble of ones, and a table of sixteen
// for the lower one, sign included, does for them (avx512.hpp).
#pragma once

#include <cstdint>

#include "kernels/ops/fp8.hpp"

namespace helix::cpu {

constexpr std::uint8_t kv_code(FP8 x) {
  constexpr std::uint8_t nan = 0xff, zero = 0xfe;
  const unsigned magnitude = x.bits & 0x7fu;
  if (magnitude == 0x7fu) return nan;
  if (magnitude == 0) return zero;
  return static_cast<std::uint8_t>(~(magnitude << 1 | x.bits >> 7));
}

constexpr FP8 from_kv_code(std::uint8_t code) {
  if (code == 0xff) return {0x7f};
  const auto rotated = static_cast<std::uint8_t>(~code);
  return {static_cast<std::uint8_t>(rotated >> 1 | rotated << 7)};
}

}  // namespace helix::cpu
