// How the CUDA backend keeps a weight matrix [n, k]: row-major, in the form that cuBLASLt takes, which is
// also what products.cuh reads with vector loads. Rows are padded with zeros to whole 16 bytes, and their
// number to a multiple of 16 where the type is quantised:
//   bf16   2 bytes a value
//   fp8    e4m3; the matrix is `scale` times what is stored
//   nvfp4  e2m1, the first of two values in a byte's low half; then one e4m3 scale for 16 values of a row, in
//          tiles of 128 rows x 4 scales as cuBLAS' "1D block scaling factors layout" has them (scale_index);
//          the matrix is `scale` times that product. Padding is zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/nvfp4.hpp"
#include "roofline/base/dtype.hpp"

namespace helix::cuda {

constexpr std::int64_t round_up(std::int64_t x, std::int64_t multiple) {
  return (x + multiple - 1) / multiple * multiple;
}

/// Values in 16 bytes.
constexpr std::int64_t values_per_chunk(DType dtype) {
  return dtype == DType::bf16 ? 8 : dtype == DType::fp8 ? 16 : 32;
}

inline constexpr int kScaleTileRows = 128, kScaleTileBlocks = 4;
inline constexpr std::int64_t kScaleTileBytes = kScaleTileRows * kScaleTileBlocks;

/// Tiles along a row of k values.
constexpr std::int64_t scale_tiles(std::int64_t k) {
  return (k + kScaleTileBlocks * kNvfp4Block - 1) / (kScaleTileBlocks * kNvfp4Block);
}
/// Byte of the scale of values [16 block, 16 block + 16) of a row, in a matrix with that many tiles along a
/// row. In a tile the four scales of a row are neighbours, and rows 32 apart.
constexpr std::int64_t scale_index(std::int64_t row, std::int64_t block, std::int64_t tiles) {
  return (row / kScaleTileRows * tiles + block / kScaleTileBlocks) * kScaleTileBytes + row % 32 * 16 +
         row % kScaleTileRows / 32 * 4 + block % kScaleTileBlocks;
}
constexpr std::int64_t scale_bytes(std::int64_t rows, std::int64_t k) {
  return round_up(rows, kScaleTileRows) / kScaleTileRows * scale_tiles(k) * kScaleTileBytes;
}

struct PackedLayout {
  std::int64_t rows;          // with padding
  std::int64_t ld;            // values from one row to the next
  std::int64_t row_bytes;     // of those
  std::int64_t scale_offset;  // nvfp4: the scales' first byte, also the bytes of all values
  std::int64_t bytes;

  constexpr PackedLayout(std::int64_t n, std::int64_t k, DType dtype)
      : rows(dtype == DType::bf16 ? n : round_up(n, 16)),
        ld(round_up(k, values_per_chunk(dtype))),
        row_bytes(ld / values_per_chunk(dtype) * 16),
        scale_offset(round_up(rows * row_bytes, 64)),
        bytes(scale_offset + (dtype == DType::nvfp4 ? scale_bytes(rows, k) : 0)) {}
};

}  // namespace helix::cuda
