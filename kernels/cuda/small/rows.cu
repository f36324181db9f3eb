// What is added to rows: a bias that all of them get; rows of another block. And what scales all of a row's values: a
// gate of its own, or its position.
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;

HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void add_bias_kernel(std::int64_t cols, Global<const BF16> bias,
                                                            Global<BF16> y, std::int64_t ldy) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= cols) return;
  const std::int64_t at = blockIdx.y * ldy + i;
  const BF16 x = y[at], b = bias[i];
  y[at] = to_bf16(to_float(x) + to_float(b));
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void scale_by_position_kernel(std::int64_t cols, float rate,
                                                                     std::int64_t period,
                                                                     Global<const std::int64_t> positions,
                                                                     Global<BF16> y, std::int64_t ldy) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= cols) return;
  const std::int64_t position = positions[blockIdx.y];
  const float factor = 1.0f + rate * logf(static_cast<float>(1 + position / period));
  const std::int64_t at = blockIdx.y * ldy + i;
  const BF16 x = y[at];
  y[at] = to_bf16(factor * to_float(x));
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void add_kernel(std::int64_t count, Global<const BF16> x,
                                                       Global<BF16> y) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  const BF16 a = x[i], b = y[i];
  y[i] = to_bf16(to_float(a) + to_float(b));
}

HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void gate_rows_kernel(std::int64_t cols, Global<const float> logits,
                                                             Global<BF16> y) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= cols) return;
  const float logit = logits[blockIdx.y];
  // With e = exp(-|x|), which cannot overflow.
  const float e = expf(-fabsf(logit));
  const float gate = (logit < 0.0f ? e : 1.0f) / (1.0f + e);
  const std::int64_t at = blockIdx.y * cols + i;
  const BF16 x = y[at];
  y[at] = to_bf16(gate * to_float(x));
}

}  // namespace

void add_bias(Stream stream, std::int64_t rows, std::int64_t cols, const BF16* bias, BF16* y,
              std::int64_t ldy) {
  launch(add_bias_kernel, Dim3(blocks_for(cols, kThreads), static_cast<unsigned>(rows)), Dim3(kThreads), 0,
         stream, cols, bias, y, ldy);
}

void scale_by_position(Stream stream, std::int64_t rows, std::int64_t cols, const PositionGrowth& growth,
                       const std::int64_t* positions, BF16* y, std::int64_t ldy) {
  launch(scale_by_position_kernel, Dim3(blocks_for(cols, kThreads), static_cast<unsigned>(rows)),
         Dim3(kThreads), 0, stream, cols, growth.rate, growth.period, positions, y, ldy);
}

void add(Stream stream, std::int64_t count, const BF16* x, BF16* y) {
  launch(add_kernel, Dim3(blocks_for(count, kThreads)), Dim3(kThreads), 0, stream, count, x, y);
}

void gate_rows(Stream stream, std::int64_t rows, std::int64_t cols, const float* logits, BF16* y) {
  launch(gate_rows_kernel, Dim3(blocks_for(cols, kThreads), static_cast<unsigned>(rows)), Dim3(kThreads), 0,
         stream, cols, logits, y);
}

}  // namespace helix::cuda
