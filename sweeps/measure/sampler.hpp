// Which token follows, by its logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>

#include "sweeps/request/sweep_request.hpp"

namespace helix {

class Sampler {
 public:
  Sampler(const Sampling& sampling, std::uint64_t seed) : sampling_(sampling), random_(seed) {}

  /// Of equally likely tokens the lower one comes first.
  std::int32_t choose(std::span<const float> logits);

 private:
  Sampling sampling_;
  std::mt19937_64 random_;
};

}  // namespace helix
