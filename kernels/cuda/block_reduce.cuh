// Sums over a block.
#pragma once

#include "kernels/cuda/device.cuh"

namespace helix::cuda {

/// Sum of x over the block's threads, in every thread. The block's shared memory must hold a float for each
/// warp; its contents are lost.
HELIX_DEVICE float block_sum(float x) {
  const Shared<float> partial = shared_memory<float>();
  x = warp_sum(x);
  block_sync();  // an earlier sum has been read
  if (lane_index() == 0) partial[warp_index()] = x;
  block_sync();
  float total = 0.0f;
  for (int w = 0; w < static_cast<int>(blockDim.x) / kWarp; ++w) {
    const float part = partial[w];
    total += part;
  }
  return total;
}

}  // namespace helix::cuda
