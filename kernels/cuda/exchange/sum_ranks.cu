// The sum of an all-reduce: the same order and one rounding on every rank, so that all get the same bits.
#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;

template <int V>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 2) void sum_ranks_kernel(std::int64_t ranks, std::int64_t count,
                                                             std::int64_t stride, Global<const BF16> rows,
                                                             Global<BF16> out) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= count) return;
  float sum[V] = {};
  for (std::int64_t r = 0; r < ranks; ++r) {
    const Vec<BF16, V> x = load<V>(rows, r * stride + i);
    HELIX_UNROLL
    for (int j = 0; j < V; ++j) sum[j] += to_float(x[j]);
  }
  Vec<BF16, V> y;
  HELIX_UNROLL
  for (int j = 0; j < V; ++j) y[j] = to_bf16(sum[j]);
  store<V>(out, i, y);
}

}  // namespace

void sum_ranks(Stream stream, std::int64_t ranks, std::int64_t count, std::int64_t stride, const BF16* rows,
               BF16* out) {
  if (vectorizable({rows, out}, {count, stride})) {
    launch(sum_ranks_kernel<kVector>, Dim3(blocks_for(count / kVector, kThreads)), Dim3(kThreads), 0, stream,
           ranks, count, stride, rows, out);
  } else {
    launch(sum_ranks_kernel<1>, Dim3(blocks_for(count, kThreads)), Dim3(kThreads), 0, stream, ranks, count,
           stride, rows, out);
  }
}

}  // namespace helix::cuda
