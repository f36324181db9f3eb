// How rows are normed and rotated.
#pragma once

#include <cstdint>

#include "kernels/cuda/device/device.cuh"

namespace helix::cuda {

HELIX_DEVICE float inverse_rms(float squares, std::int64_t cols, float eps) {
  return 1.0f / sqrtf(squares / static_cast<float>(cols) + eps);
}

/// By which a pair of values is turned.
struct Rotation {
  float cos, sin;
};

/// The angle is taken in fp64: at position 10^6 an fp32 product would be off by up to 0.06 rad.
HELIX_DEVICE Rotation rotation(std::int64_t position, float frequency, float amplitude) {
  constexpr double two_pi = 6.283185307179586476925;
  double angle = static_cast<double>(position) * static_cast<double>(frequency);
  angle -= two_pi * rint(angle / two_pi);
  return {amplitude * cosf(static_cast<float>(angle)), amplitude * sinf(static_cast<float>(angle))};
}

/// Values of a head that are a pair.
struct RotatedPair {
  std::int64_t first, second;
  HELIX_DEVICE RotatedPair(std::int64_t pair, std::int64_t pairs, bool interleaved)
      : first(interleaved ? 2 * pair : pair), second(interleaved ? 2 * pair + 1 : pair + pairs) {}
};

struct Pair {
  float first, second;
};
HELIX_DEVICE Pair turned(const Rotation& by, const Pair& x) {
  return {x.first * by.cos - x.second * by.sin, x.second * by.cos + x.first * by.sin};
}

}  // namespace helix::cuda
