// Small functions of numbers that CUDA and the host's library name differently.
#pragma once

#include "kernels/cuda/device/device.cuh"

namespace helix::cuda {

HELIX_DEVICE bool is_nan(float x) {
  return x != x;
}

}  // namespace helix::cuda
