// The CPU's packed weight layout, shared by all instruction sets.
//
// A matrix [n, k] is cut into panels of 32 outputs, stored one after the other, so that every product reads
// its weights as one linear stream. A panel is a sequence of blocks of 32 inputs, a block is two tiles of 16
// outputs, and a tile is what AMX takes as its second operand: 16 rows, one per pair of inputs (2p, 2p + 1),
// of 16 outputs with their two values side by side. n and k are padded with zeros to multiples of 32.
//
//   bf16: tile[p][output][2] = 1 KiB, one cache line per row p.
//   fp8:  two rows share a cache line as bytes [output / 4][row % 2][output % 4][2], because this is the
//   order in which
//         punpcklbw / punpckhbw widen 64 bytes to two rows of 16-bit values.
#pragma once

#include <cstddef>
#include <cstdint>

#include "roofline/base/dtype.hpp"

namespace helix::packing {

inline constexpr std::int64_t panel_outputs = 32;
inline constexpr std::int64_t tile_outputs = 16;
inline constexpr std::int64_t block_inputs = 32;
inline constexpr std::int64_t tile_rows = block_inputs / 2;
inline constexpr std::int64_t tile_values = tile_outputs * block_inputs;

inline std::int64_t panels(std::int64_t n) {
  return (n + panel_outputs - 1) / panel_outputs;
}
inline std::int64_t blocks(std::int64_t k) {
  return (k + block_inputs - 1) / block_inputs;
}

inline std::int64_t bytes_per_weight(DType dtype) {
  return dtype == DType::fp8 ? 1 : 2;
}
inline std::int64_t panel_bytes(std::int64_t k, DType dtype) {
  return blocks(k) * 2 * tile_values * bytes_per_weight(dtype);
}

/// Index of (output, input) among the values of its tile; output < 16, input < 32.
inline std::int64_t index_in_tile(std::int64_t output, std::int64_t input, DType dtype) {
  const std::int64_t row = input / 2, half = input % 2;
  if (dtype == DType::fp8) return row / 2 * 64 + output / 4 * 16 + row % 2 * 8 + output % 4 * 2 + half;
  return row * 32 + output * 2 + half;
}

/// Index of (output, input) among the values of the packed matrix with k inputs.
inline std::int64_t index_in_matrix(std::int64_t output, std::int64_t input, std::int64_t k, DType dtype) {
  const std::int64_t tile =
      (output / panel_outputs * blocks(k) + input / block_inputs) * 2 + output % panel_outputs / tile_outputs;
  return tile * tile_values + index_in_tile(output % tile_outputs, input % block_inputs, dtype);
}

}  // namespace helix::packing
