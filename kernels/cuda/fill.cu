// Synthetic weights, generated where they are needed; and reading memory as fast as it goes.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/small_ops.hpp"
#include "kernels/cuda/vector_access.cuh"
#include "kernels/synthetic.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;

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

HELIX_KERNEL HELIX_BOUNDS(kThreads, 8) void read_all_kernel(Global<const Vec<std::uint32_t, 4>> memory,
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
  constexpr std::int64_t most_rows = 16384;  // of the grid
  const bool vectors = vectorizable({out}, {ld});
  const std::int64_t items = vectors ? ld / kVector : ld;
  const auto grid_rows = static_cast<unsigned>(slice.rows < most_rows ? slice.rows : most_rows);
  launch(vectors ? fill_rows_kernel<kVector> : fill_rows_kernel<1>,
         Dim3(blocks_for(items, kThreads), grid_rows), Dim3(kThreads), 0, stream, slice.key, slice.row0,
         slice.col0, slice.rows, slice.cols, slice.scale, ld, out);
}

void read_all(Stream stream, const std::byte* memory, std::size_t bytes, std::uint32_t* sink) {
  constexpr unsigned blocks = 2048;
  launch(read_all_kernel, Dim3(blocks), Dim3(kThreads), 0, stream,
         reinterpret_cast<const Vec<std::uint32_t, 4>*>(memory), static_cast<std::int64_t>(bytes / 16), sink);
}

}  // namespace helix::cuda
