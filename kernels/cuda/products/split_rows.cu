// Activations as sums of narrow terms, and the sum of the terms' products: quantized_linear.hpp says why.
// Reads 2 bytes a value (4 with the search for the row's largest, the second time from L2) and writes 2 (fp8:
// two e4m3; nvfp4: four e2m1 and their scales, 2.25); the sum reads 4 bytes a term and writes one result.
#include <cmath>

#include "kernels/cuda/device/block_reduce.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/products/quantized_linear.hpp"
#include "kernels/cuda/small/packed_weight.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;

/// The least power of two that is not below a positive x.
constexpr float power_of_two_from(float x) {
  return std::bit_cast<float>((std::bit_cast<std::uint32_t>(x) + 0x7fffffu) & 0x7f800000u);
}

/// Largest magnitude of a term in its own units: with e4m3 scales of blocks up to 448.
template <DType dtype>
constexpr float kLargest = dtype == DType::fp8 ? 448.0f : 6.0f * 448.0f;

struct SplitShape {
  std::int64_t m, k, ldx, padded, row_bytes, tiles;
};

/// Block i: row i. A thread: 16 values at a time.
template <DType dtype>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 2) void split_rows_kernel(SplitShape shape, Global<const BF16> x,
                                                              Global<std::byte> values,
                                                              Global<std::byte> scales, Global<float> units) {
  constexpr int terms = SplitRows::terms(dtype);
  constexpr float step = SplitRows::step(dtype), infinity = std::numeric_limits<float>::infinity();
  constexpr int block_bytes = dtype == DType::fp8 ? 16 : 8;
  const std::int64_t row = blockIdx.x;
  const bool exists = row < shape.m;
  float largest = 0.0f;
  for (std::int64_t i = threadIdx.x; exists && i < shape.k; i += kThreads) {
    const BF16 value = x[row * shape.ldx + i];
    const float a = fabsf(to_float(value));
    largest = fmaxf(largest, a < infinity ? a : infinity);  // a NaN counts as infinity
  }
  largest = block_max(largest);
  // Not so small that 1 / unit would overflow.
  const float unit = power_of_two_from(fmaxf(largest / kLargest<dtype>, 0x1p-100f));
  if (threadIdx.x == 0) units[row] = unit;

  const std::int64_t blocks =
      dtype == DType::fp8 ? shape.row_bytes / block_bytes : shape.tiles * kScaleTileBlocks;
  for (std::int64_t block = threadIdx.x; block < blocks; block += kThreads) {
    float rest[kNvfp4Block];
    HELIX_UNROLL
    for (int j = 0; j < kNvfp4Block; ++j) {
      const std::int64_t input = block * kNvfp4Block + j;
      BF16 value{};
      if (exists && input < shape.k) value = x[row * shape.ldx + input];
      rest[j] = to_float(value) / unit;
    }
    HELIX_UNROLL
    for (int t = 0; t < terms; ++t) {
      const std::int64_t to = t * shape.padded + row;
      Vec<unsigned, block_bytes / 4> packed{};
      if constexpr (dtype == DType::fp8) {
        HELIX_UNROLL
        for (int j = 0; j < kNvfp4Block; ++j) {
          const FP8 term = to_fp8(rest[j]);
          packed[j / 4] |= static_cast<unsigned>(term.bits) << j % 4 * 8;
          rest[j] = (rest[j] - to_float(term)) * step;
        }
      } else {
        float block_largest = 0.0f;
        HELIX_UNROLL
        for (int j = 0; j < kNvfp4Block; ++j) block_largest = fmaxf(block_largest, fabsf(rest[j]));
        const FP8 scale = nvfp4_scale(block_largest);
        HELIX_UNROLL
        for (int j = 0; j < kNvfp4Block; ++j) {
          const unsigned term = to_nvfp4(rest[j], scale);
          packed[j / 8] |= term << j % 8 * 4;
          rest[j] = (rest[j] - e2m1_to_float(term) * to_float(scale)) * step;
        }
        scales.template as<std::uint8_t>()[scale_index(to, block, shape.tiles)] = scale.bits;
      }
      if (block * block_bytes < shape.row_bytes)
        (values + (to * shape.row_bytes + block * block_bytes)).template as<decltype(packed)>()[0] = packed;
    }
  }
}

template <DType dtype, typename Y>
HELIX_KERNEL HELIX_BOUNDS(kThreads,
                          4) void add_terms_kernel(std::int64_t n, std::int64_t ld, std::int64_t padded,
                                                   float factor, Global<const float> products,
                                                   Global<const float> units, std::int64_t ldy, Global<Y> y) {
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x,
                     row = blockIdx.y;
  if (column >= n) return;
  float sum = 0.0f;
  HELIX_UNROLL
  for (int t = SplitRows::terms(dtype) - 1; t >= 0; --t) {
    const float term = products[(t * padded + row) * ld + column];
    sum = sum / SplitRows::step(dtype) + term;
  }
  const float unit = units[row], value = sum * factor * unit;
  if constexpr (std::is_same_v<Y, BF16>) {
    y[row * ldy + column] = to_bf16(value);
  } else {
    y[row * ldy + column] = value;
  }
}

}  // namespace

void split_rows(Stream stream, DType dtype, std::int64_t m, std::int64_t k, const BF16* x, std::int64_t ldx,
                const SplitRows& rows) {
  const PackedLayout layout(SplitRows::terms(dtype) * rows.padded, k, dtype);
  launch(dtype == DType::fp8 ? split_rows_kernel<DType::fp8> : split_rows_kernel<DType::nvfp4>,
         Dim3(static_cast<unsigned>(rows.padded)), Dim3(kThreads), kThreads / kWarp * sizeof(float), stream,
         SplitShape{m, k, ldx, rows.padded, layout.row_bytes, scale_tiles(k)}, x, rows.values, rows.scales,
         rows.units);
}

template <typename Y>
void add_terms(Stream stream, DType dtype, std::int64_t m, std::int64_t n, const float* products,
               std::int64_t ld, const SplitRows& rows, float factor, Y* y, std::int64_t ldy) {
  launch(dtype == DType::fp8 ? add_terms_kernel<DType::fp8, Y> : add_terms_kernel<DType::nvfp4, Y>,
         Dim3(blocks_for(n, kThreads), static_cast<unsigned>(m)), Dim3(kThreads), 0, stream, n, ld,
         rows.padded, factor, products, rows.units, ldy, y);
}
template void add_terms(Stream, DType, std::int64_t, std::int64_t, const float*, std::int64_t,
                        const SplitRows&, float, BF16*, std::int64_t);
template void add_terms(Stream, DType, std::int64_t, std::int64_t, const float*, std::int64_t,
                        const SplitRows&, float, float*, std::int64_t);

}  // namespace helix::cuda
