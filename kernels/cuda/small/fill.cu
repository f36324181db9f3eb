// Synthetic weights, generated where they are needed; and reading memory as fast as it goes.
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"
#include "kernels/ops/nvfp4.hpp"
#include "kernels/ops/synthetic.hpp"
#include "roofline/base/error.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostRows = 16384;  // of a grid

template <int V>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void fill_rows_kernel(std::uint64_t key, std::int64_t row0,
                                                             std::int64_t col0, std::int64_t rows,
                                                             std::int64_t cols, float scale, std::int64_t ld,
                                                             Global<BF16> out) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= ld) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const std::uint32_t row_key = synthetic::row_key(key, row0 + row);
    Vec<BF16, V> x;
    HELIX_UNROLL
    for (int j = 0; j < V; ++j) {
      const float value = scale * synthetic::unit_value(row_key, static_cast<std::uint32_t>(col0 + i + j));
      x[j] = i + j < cols ? to_bf16(value) : BF16{};
    }
    store<V>(out, row * ld + i, x);
  }
}

struct QuantizedFill {
  std::uint64_t key;
  std::int64_t row0, col0, rows, cols;
  float scale;
  std::int64_t first_row, row_bytes, scale_offset, tiles;  // of the packed matrix
};

/// A thread: a block of 16 values of a row.
template <DType dtype>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void fill_quantized_kernel(QuantizedFill fill, Global<std::byte> out) {
  constexpr int block_bytes = dtype == DType::fp8 ? 16 : 8;
  const std::int64_t block = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (block * kNvfp4Block >= fill.cols) return;
  for (std::int64_t row = blockIdx.y; row < fill.rows; row += gridDim.y) {
    const std::uint32_t row_key = synthetic::row_key(fill.key, fill.row0 + row);
    float values[kNvfp4Block], largest = 0.0f;
    HELIX_UNROLL
    for (int j = 0; j < kNvfp4Block; ++j) {
      const std::int64_t column = block * kNvfp4Block + j;
      const auto position = static_cast<std::uint32_t>(fill.col0 + column);
      values[j] = column < fill.cols ? fill.scale * synthetic::unit_value(row_key, position) : 0.0f;
      largest = fmaxf(largest, fabsf(values[j]));
    }
    const FP8 scale = nvfp4_scale(largest);
    Vec<unsigned, block_bytes / 4> packed{};
    HELIX_UNROLL
    for (int j = 0; j < kNvfp4Block; ++j) {
      if constexpr (dtype == DType::fp8) {
        packed[j / 4] |= static_cast<unsigned>(to_fp8(values[j]).bits) << j % 4 * 8;
      } else {
        packed[j / 8] |= to_nvfp4(values[j], scale) << j % 8 * 4;
      }
    }
    const std::int64_t to = fill.first_row + row;
    (out + (to * fill.row_bytes + block * block_bytes)).template as<decltype(packed)>()[0] = packed;
    if constexpr (dtype == DType::nvfp4) {
      const auto scales = (out + fill.scale_offset).template as<std::uint8_t>();
      scales[scale_index(to, block, fill.tiles)] = scale.bits;
    }
  }
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 6) void read_all_kernel(Global<const Vec<std::uint32_t, 4>> memory,
                                                            std::int64_t count, Global<std::uint32_t> sink) {
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kThreads;
  std::uint32_t folded = 0;
  HELIX_UNROLL
  for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x; i < count;
       i += step) {
    const Vec<std::uint32_t, 4> x = memory[i];
    folded ^= x[0] ^ x[1] ^ x[2] ^ x[3];
  }
  if (folded == 0x9e3779b9u) sink[0] = folded;  // practically never, but the compiler cannot know
}

}  // namespace

void fill_rows(Stream stream, const WeightSlice& slice, std::int64_t ld, BF16* out) {
  if (slice.rows == 0 || ld == 0) return;
  const bool vectors = vectorizable({out}, {ld});
  const std::int64_t items = vectors ? ld / kVector : ld;
  const auto grid_rows = static_cast<unsigned>(slice.rows < kMostRows ? slice.rows : kMostRows);
  launch(vectors ? fill_rows_kernel<kVector> : fill_rows_kernel<1>,
         Dim3(blocks_for(items, kThreads), grid_rows), Dim3(kThreads), 0, stream, slice.key, slice.row0,
         slice.col0, slice.rows, slice.cols, slice.scale, ld, out);
}

void fill_quantized(Stream stream, const WeightSlice& slice, DType dtype, std::int64_t row,
                    const PackedLayout& layout, std::byte* matrix) {
  if (slice.rows == 0 || slice.cols == 0) return;
  if (dtype == DType::nvfp4 && slice.col0 % kNvfp4Block != 0)
    throw UsageError("NVFP4 weights cannot be cut inside of a block of 16 inputs");
  const std::int64_t blocks = (slice.cols + kNvfp4Block - 1) / kNvfp4Block;
  const auto grid_rows = static_cast<unsigned>(slice.rows < kMostRows ? slice.rows : kMostRows);
  const QuantizedFill fill{
      slice.key,   slice.row0, slice.col0,       slice.rows,          slice.cols,
      slice.scale, row,        layout.row_bytes, layout.scale_offset, scale_tiles(slice.cols)};
  launch(dtype == DType::fp8 ? fill_quantized_kernel<DType::fp8> : fill_quantized_kernel<DType::nvfp4>,
         Dim3(blocks_for(blocks, kThreads), grid_rows), Dim3(kThreads), 0, stream, fill, matrix);
}

void read_all(Stream stream, const std::byte* memory, std::size_t bytes, std::uint32_t* sink) {
  constexpr unsigned blocks = 2048;
  launch(read_all_kernel, Dim3(blocks), Dim3(kThreads), 0, stream,
         reinterpret_cast<const Vec<std::uint32_t, 4>*>(memory), static_cast<std::int64_t>(bytes / 16), sink);
}

}  // namespace helix::cuda
