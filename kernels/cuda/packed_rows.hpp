// How the CUDA backend keeps a weight matrix [n, k]: row-major bf16, each row padded with zeros to whole 16
// bytes, so that any row can be read with vector loads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/bf16.hpp"

namespace helix::cuda {

/// Values from one row to the next.
constexpr std::int64_t packed_ld(std::int64_t k) {
  return (k + 7) / 8 * 8;
}

constexpr std::size_t packed_row_bytes(std::int64_t n, std::int64_t k) {
  return (static_cast<std::size_t>(n * packed_ld(k)) * sizeof(BF16) + 63) / 64 * 64;
}

}  // namespace helix::cuda
