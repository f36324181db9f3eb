// Test data.
#pragma once

#include <random>
#include <vector>

#include "kernels/ops/bf16.hpp"

namespace helix::testing {

/// Normally distributed with standard deviation `deviation`.
inline std::vector<float> random_floats(std::size_t count, unsigned seed, float deviation = 1.0f) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(count);
  for (float& v : values) v = normal(engine);
  return values;
}

inline std::vector<double> random_doubles(std::size_t count, unsigned seed) {
  const auto floats = random_floats(count, seed);
  return {floats.begin(), floats.end()};
}

inline std::vector<BF16> random_bf16(std::size_t count, unsigned seed, float deviation = 1.0f) {
  std::vector<BF16> values;
  for (const float v : random_floats(count, seed, deviation)) values.push_back(to_bf16(v));
  return values;
}

}  // namespace helix::testing
