// Weights of a checkpoint into the packed layout. Of a tile that is 16 rows of 64 bytes (bf16) or 32 (fp8): words of two
// or four inputs, four outputs of which become 16 bytes that follow each other.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/cpu/linear/linear.hpp"
#include "kernels/cpu/linear/packing.hpp"
#include "kernels/cpu/machine/parallel.hpp"
#include "kernels/ops/simd_clones.hpp"

namespace helix::cpu {
namespace {

using Words = std::uint32_t __attribute__((vector_size(16)));
using Halves = std::uint16_t __attribute__((vector_size(16)));

inline Words load(const std::byte* from) {
  Words words;
  std::memcpy(&words, from, sizeof(words));
  return words;
}

/// Of four outputs the same word each: for fp8 the pairs of inputs (0, 1) of all four before the pairs (2, 3).
template <DType dtype>
inline void store(Words words, std::byte* to) {
  if constexpr (dtype == DType::fp8) {
    const Halves pairs = reinterpret_cast<Halves>(words);
    words = reinterpret_cast<Words>(__builtin_shufflevector(pairs, pairs, 0, 2, 4, 6, 1, 3, 5, 7));
  }
  std::memcpy(to, &words, sizeof(words));
}

/// Four words each of four outputs, `stride` bytes apart, to four cache lines.
template <DType dtype>
inline void turn(const std::byte* from, std::int64_t stride, std::byte* to) {
  constexpr std::int64_t line = 64;
  const Words a = load(from), b = load(from + stride), c = load(from + 2 * stride),
              d = load(from + 3 * stride);
  const Words ab01 = __builtin_shufflevector(a, b, 0, 4, 1, 5),
              ab23 = __builtin_shufflevector(a, b, 2, 6, 3, 7),
              cd01 = __builtin_shufflevector(c, d, 0, 4, 1, 5),
              cd23 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store<dtype>(__builtin_shufflevector(ab01, cd01, 0, 1, 4, 5), to);
  store<dtype>(__builtin_shufflevector(ab01, cd01, 2, 3, 6, 7), to + line);
  store<dtype>(__builtin_shufflevector(ab23, cd23, 0, 1, 4, 5), to + 2 * line);
  store<dtype>(__builtin_shufflevector(ab23, cd23, 2, 3, 6, 7), to + 3 * line);
}

template <DType dtype>
inline void write_tile(const std::byte* rows, std::int64_t stride, std::byte* tile) {
  constexpr std::int64_t row_bytes = dtype == DType::fp8 ? 32 : 64, words_bytes = sizeof(Words);
  // Rows may all lie at the same sets of a cache: what is read of four of them is used up at once.
  for (std::int64_t output = 0; output < packing::tile_outputs; output += 4)
    for (std::int64_t at = 0; at < row_bytes; at += words_bytes)
      turn<dtype>(rows + output * stride + at, stride, tile + at * 16 + output * 4);
}

/// The blocks of a panel whose 32 outputs and 32 inputs all exist.
HELIX_SIMD_CLONES void write_blocks_bf16(const std::byte* rows, std::int64_t stride, std::int64_t blocks,
                                         std::byte* tiles) {
  for (std::int64_t block = 0; block < 2 * blocks; ++block)
    write_tile<DType::bf16>(rows + block % 2 * 16 * stride + block / 2 * 64, stride, tiles + block * 1024);
}
HELIX_SIMD_CLONES void write_blocks_fp8(const std::byte* rows, std::int64_t stride, std::int64_t blocks,
                                        std::byte* tiles) {
  for (std::int64_t block = 0; block < 2 * blocks; ++block)
    write_tile<DType::fp8>(rows + block % 2 * 16 * stride + block / 2 * 32, stride, tiles + block * 512);
}

}  // namespace

void store_weight(const PackedWeight& weight, std::int64_t index, std::int64_t first, std::int64_t rows,
                  const void* values, int threads) {
  if (first % packing::panel_outputs != 0 || first + rows > weight.n ||
      (rows % packing::panel_outputs != 0 && first + rows != weight.n)) {
    throw std::invalid_argument("store_weight: rows that are no whole panels");
  }
  const auto write_blocks = weight.dtype == DType::fp8 ? write_blocks_fp8 : write_blocks_bf16;
  const std::int64_t value_bytes = packing::bytes_per_weight(weight.dtype), stride = weight.k * value_bytes,
                     block_row = packing::block_inputs * value_bytes,
                     whole_blocks = weight.k / packing::block_inputs,
                     panel_bytes = packing::panel_bytes(weight.k, weight.dtype);
  const auto* const from = static_cast<const std::byte*>(values);
  std::byte* const to = weight.data + static_cast<std::size_t>(index) * weight.stride_bytes +
                        first / packing::panel_outputs * panel_bytes;
  in_parallel(threads, [&](int thread, int team) {
    const Range mine = split(packing::panels(rows), thread, team);
    for (std::int64_t panel = mine.begin; panel < mine.end; ++panel) {
      const std::byte* const panel_rows = from + panel * packing::panel_outputs * stride;
      std::byte* const tiles = to + panel * panel_bytes;
      const std::int64_t outputs = std::min(packing::panel_outputs, rows - panel * packing::panel_outputs),
                         direct = outputs == packing::panel_outputs ? whole_blocks : 0;
      write_blocks(panel_rows, stride, direct, tiles);
      for (std::int64_t block = direct; block < packing::blocks(weight.k); ++block) {  // with zeros around
        std::byte padded[packing::panel_outputs * packing::block_inputs * sizeof(std::uint16_t)]{};
        const std::int64_t bytes = std::min(block_row, stride - block * block_row);
        for (std::int64_t o = 0; o < outputs; ++o)
          std::memcpy(padded + o * block_row, panel_rows + o * stride + block * block_row,
                      static_cast<std::size_t>(bytes));
        write_blocks(padded, block_row, 1, tiles + block * (panel_bytes / packing::blocks(weight.k)));
      }
    }
  });
}

}  // namespace helix::cpu
