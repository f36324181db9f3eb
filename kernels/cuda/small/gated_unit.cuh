// Gated units of one value (Shazeer 2020): SwiGLU, gpt-oss's that clamps, GeGLU by the approximation with tanh.
#pragma once

#include "kernels/cuda/device/device.cuh"
#include "roofline/model/model_spec.hpp"

namespace helix::cuda {

/// GatedUnit as a kernel has it.
struct UnitValues {
  GatedUnit::Kind kind = GatedUnit::Kind::silu;
  float alpha = 0.0f, limit = 0.0f;

  UnitValues() = default;
  explicit UnitValues(const GatedUnit& unit)
      : kind(unit.kind), alpha(static_cast<float>(unit.alpha)), limit(static_cast<float>(unit.limit)) {}
};

/// g sigmoid(z). With e = exp(-|z|), which cannot overflow: sigmoid(z) = 1 / (1 + e) for z >= 0, e / (1 + e) for z < 0.
HELIX_DEVICE float times_sigmoid(float g, float z) {
  const float e = expf(-fabsf(z));
  return g * ((z < 0.0f ? e : 1.0f) / (1.0f + e));
}

/// A NaN of either stays one.
HELIX_DEVICE float gated_value(const UnitValues& unit, float gate, float up) {
  if (unit.kind == GatedUnit::Kind::silu) return times_sigmoid(gate, gate) * up;
  if (unit.kind == GatedUnit::Kind::clamped_silu) {
    const float g = gate > unit.limit ? unit.limit : gate;
    const float u = up > unit.limit ? unit.limit : up < -unit.limit ? -unit.limit : up;
    return times_sigmoid(g, unit.alpha * g) * (u + 1.0f);
  }
  // 1 + tanh(z) = 2 sigmoid(2 z); beyond 10 that is 0 or 2, and the cube would overflow.
  constexpr float twice_root = 1.5957691216f;  // 2 sqrt(2 / pi)
  const float x = gate > 10.0f ? 10.0f : gate < -10.0f ? -10.0f : gate;
  return times_sigmoid(gate, twice_root * (x + 0.044715f * x * x * x)) * up;
}

}  // namespace helix::cuda
