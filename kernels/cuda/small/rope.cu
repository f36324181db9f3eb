// Rotary position embedding (Su et al. 2021): pair i of a head, (x_i, x_{i + d/2}) or interleaved (x_2i,
// x_2i+1), is turned by the angle position * inv_freq_i. A thread turns one pair of several heads, so that fp64,
// slow on many GPUs, is used sparingly. Values of a head that no pair holds go on as they are.
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/row_math.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kHeadsPerBlock = 8;

HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void rope_kernel(
    Global<const float> inv_freq, std::int64_t pairs, float amplitude, bool interleaved, std::int64_t heads,
    Global<const std::int64_t> positions, Global<const BF16> x, std::int64_t row_stride,
    std::int64_t head_stride, Global<BF16> out, std::int64_t out_row_stride, std::int64_t out_head_stride) {
  const std::int64_t pair = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (pair >= pairs) return;
  const std::int64_t b = blockIdx.z;
  const std::int64_t position = positions[b];
  const float frequency = inv_freq[pair];
  const Rotation by = rotation(position, frequency, amplitude);
  const RotatedPair at(pair, pairs, interleaved);
  const std::int64_t begin = static_cast<std::int64_t>(blockIdx.y) * kHeadsPerBlock;
  for (std::int64_t h = begin; h < begin + kHeadsPerBlock && h < heads; ++h) {
    const Global<const BF16> in = x + (b * row_stride + h * head_stride);
    const Global<BF16> to = out + (b * out_row_stride + h * out_head_stride);
    const BF16 first = in[at.first], second = in[at.second];
    const Pair y = turned(by, {to_float(first), to_float(second)});
    to[at.first] = to_bf16(y.first);
    to[at.second] = to_bf16(y.second);
  }
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void pass_kernel(std::int64_t first, std::int64_t values,
                                                        Global<const BF16> x, std::int64_t row_stride,
                                                        std::int64_t head_stride, Global<BF16> out,
                                                        std::int64_t out_row_stride,
                                                        std::int64_t out_head_stride) {
  const std::int64_t i = first + static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= first + values) return;
  const std::int64_t h = blockIdx.y, b = blockIdx.z;
  const BF16 value = x[b * row_stride + h * head_stride + i];
  out[b * out_row_stride + h * out_head_stride + i] = value;
}

}  // namespace

void rope(Stream stream, const RopeTable& table, std::int64_t batch, std::int64_t heads,
          const std::int64_t* positions, HeadRows<const BF16> x, HeadRows<BF16> out) {
  const std::int64_t pairs = table.rope_dim / 2;
  if (table.passed > 0 && x.data != out.data) {
    launch(
        pass_kernel,
        Dim3(blocks_for(table.passed, kThreads), static_cast<unsigned>(heads), static_cast<unsigned>(batch)),
        Dim3(kThreads), 0, stream, table.rope_dim, table.passed, x.data, x.row_stride, x.head_stride,
        out.data, out.row_stride, out.head_stride);
  }
  if (pairs == 0) return;
  launch(rope_kernel,
         Dim3(blocks_for(pairs, kThreads), blocks_for(heads, kHeadsPerBlock), static_cast<unsigned>(batch)),
         Dim3(kThreads), 0, stream, table.inv_freq, pairs, table.amplitude, table.interleaved, heads,
         positions, x.data, x.row_stride, x.head_stride, out.data, out.row_stride, out.head_stride);
}

}  // namespace helix::cuda
