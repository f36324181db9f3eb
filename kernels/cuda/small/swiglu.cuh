// SwiGLU of one value (Shazeer 2020): silu(gate) * up.
#pragma once

#include "kernels/cuda/device/device.cuh"

namespace helix::cuda {

/// With e = exp(-|g|), which cannot overflow: silu(g) = g / (1 + e) for g >= 0, g e / (1 + e) for g < 0.
HELIX_DEVICE float swiglu_value(float gate, float up) {
  const float e = expf(-fabsf(gate));
  return gate * ((gate < 0.0f ? e : 1.0f) / (1.0f + e)) * up;
}

}  // namespace helix::cuda
