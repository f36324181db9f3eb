#include "kernels/state/rope.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace helix {
namespace {

constexpr double kTwoPi = 2.0 * std::numbers::pi;

/// Llama 3.1: wavelengths longer than original / low_freq_factor are stretched by `factor`, those shorter
/// than original / high_freq_factor are kept, and between the two the frequency is interpolated.
double llama3_frequency(const RopeSpec& rope, double frequency) {
  const double turns = static_cast<double>(rope.original_max_position) * frequency / kTwoPi;
  if (turns < rope.low_freq_factor) return frequency / rope.factor;
  if (turns > rope.high_freq_factor) return frequency;
  const double keep = (turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - keep) * frequency / rope.factor + keep * frequency;
}

/// YaRN (Peng et al. 2023): the pair that turns `turns` times over the original context.
double yarn_pair(const RopeSpec& rope, std::int64_t rope_dim, double turns) {
  return static_cast<double>(rope_dim) *
         std::log(static_cast<double>(rope.original_max_position) / (turns * kTwoPi)) /
         (2.0 * std::log(rope.theta));
}

/// YaRN: pairs below `low` keep their frequency, those above `high` are stretched, with a
/// linear ramp between.
double yarn_frequency(const RopeSpec& rope, std::int64_t rope_dim, std::int64_t pair, double frequency) {
  double low = yarn_pair(rope, rope_dim, rope.beta_fast), high = yarn_pair(rope, rope_dim, rope.beta_slow);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rope_dim - 1));
  const double width = high == low ? 0.001 : high - low;
  const double stretch = std::clamp((static_cast<double>(pair) - low) / width, 0.0, 1.0);
  return frequency / rope.factor * stretch + frequency * (1.0 - stretch);
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1.0 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

}  // namespace

std::vector<float> inv_frequencies(const RopeSpec& rope, std::int64_t rope_dim) {
  std::vector<float> result;
  for (std::int64_t i = 0; i < rope_dim / 2; ++i) {
    double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(rope_dim));
    switch (rope.scaling) {
      case RopeScalingKind::none:
        break;
      case RopeScalingKind::linear:
        frequency /= rope.factor;
        break;
      case RopeScalingKind::llama3:
        frequency = llama3_frequency(rope, frequency);
        break;
      case RopeScalingKind::yarn:
        frequency = yarn_frequency(rope, rope_dim, i, frequency);
        break;
      case RopeScalingKind::longrope:
        frequency /= rope.stretches.at(static_cast<std::size_t>(i));
        break;
    }
    result.push_back(static_cast<float>(frequency));
  }
  return result;
}

double rope_amplitude(const RopeSpec& rope) {
  if (rope.attention_factor > 0.0) return rope.attention_factor;
  if (rope.scaling == RopeScalingKind::longrope && rope.factor > 1.0)  // Ding et al. 2024
    return std::sqrt(1.0 + std::log(rope.factor) / std::log(static_cast<double>(rope.original_max_position)));
  if (rope.scaling != RopeScalingKind::yarn) return 1.0;
  if (rope.mscale == 0.0 || rope.mscale_all_dim == 0.0) return yarn_mscale(rope.factor, 1.0);
  return yarn_mscale(rope.factor, rope.mscale) / yarn_mscale(rope.factor, rope.mscale_all_dim);
}

double attention_scale(const ModelSpec& model) {
  if (model.attention.multiplier > 0.0) return model.attention.multiplier;
  const double scale = 1.0 / std::sqrt(static_cast<double>(model.attention.qk_head_dim));
  if (model.attention.kind != AttentionKind::mla || model.rope.scaling != RopeScalingKind::yarn) return scale;
  const double mscale =
      yarn_mscale(model.rope.factor, model.rope.mscale_all_dim);  // 1 where mscale_all_dim is 0
  return scale * mscale * mscale;
}

}  // namespace helix
