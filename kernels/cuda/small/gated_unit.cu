// Gated units of rows: six bytes a value.
#include "kernels/cuda/small/gated_unit.cuh"

#include "kernels/cuda/device/device.cuh"
#include "kernels/cuda/device/vector_access.cuh"
#include "kernels/cuda/small/small_ops.hpp"

namespace helix::cuda {
namespace {

constexpr int kThreads = 256;

template <int V>
HELIX_KERNEL HELIX_BOUNDS(kThreads, 4) void gated_kernel(UnitValues unit, std::int64_t f,
                                                         Global<const BF16> gate_up, Global<BF16> out) {
  const std::int64_t i = (static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x) * V;
  if (i >= f) return;
  const std::int64_t row = blockIdx.y;
  const Vec<BF16, V> gate = load<V>(gate_up, row * 2 * f + i), up = load<V>(gate_up, (row * 2 + 1) * f + i);
  Vec<BF16, V> y;
  HELIX_UNROLL
  for (int j = 0; j < V; ++j) y[j] = to_bf16(gated_value(unit, to_float(gate[j]), to_float(up[j])));
  store<V>(out, row * f + i, y);
}

}  // namespace

void gated(Stream stream, const GatedUnit& unit, std::int64_t m, std::int64_t f, const BF16* gate_up,
           BF16* out) {
  const bool vectors = vectorizable({gate_up, out}, {f});
  const std::int64_t items = vectors ? f / kVector : f;
  launch(vectors ? gated_kernel<kVector> : gated_kernel<1>,
         Dim3(blocks_for(items, kThreads), static_cast<unsigned>(m)), Dim3(kThreads), 0, stream,
         UnitValues(unit), f, gate_up, out);
}

}  // namespace helix::cuda
