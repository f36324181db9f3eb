// Sums and maxima over a block.
#pragma once

#include "kernels/cuda/device/device.cuh"

namespace helix::cuda {

/// combine() of x over the block's threads, in every thread and in the order of the warps, from that of each
/// warp. The block's shared memory must hold a float for each warp; its contents are lost.
template <typename Combine>
HELIX_DEVICE float over_warps(float of_warp, const Combine& combine) {
  const Shared<float> partial = shared_memory<float>();
  block_sync();  // an earlier result has been read
  if (lane_index() == 0) partial[warp_index()] = of_warp;
  block_sync();
  float total = partial[0];
  for (int w = 1; w < static_cast<int>(blockDim.x) / kWarp; ++w) {
    const float part = partial[w];
    total = combine(total, part);
  }
  return total;
}

HELIX_DEVICE float block_sum(float x) {
  return over_warps(warp_sum(x), [](float a, float b) { return a + b; });
}
HELIX_DEVICE float block_max(float x) {
  return over_warps(warp_max(x), [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace helix::cuda
