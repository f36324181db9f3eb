#include "sweeps/measure/sampler.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

namespace helix {

std::int32_t Sampler::choose(std::span<const float> logits) {
  const auto largest = std::ranges::max_element(logits);
  if (sampling_.greedy()) return static_cast<std::int32_t>(largest - logits.begin());
  std::vector<double> weights;
  for (const float x : logits)
    weights.push_back(
        std::exp((static_cast<double>(x) - static_cast<double>(*largest)) / sampling_.temperature));
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, std::greater<>(),
                           [&](std::int32_t t) { return weights[static_cast<std::size_t>(t)]; });
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  double kept = 0;
  std::size_t count = 0;
  while (count < order.size() && (count == 0 || kept < sampling_.top_p * all))
    kept += weights[static_cast<std::size_t>(order[count++])];
  // 53 bits of the generator, which are the same with every standard library.
  const double drawn = static_cast<double>(random_() >> 11) * 0x1p-53 * kept;
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    sum += weights[static_cast<std::size_t>(order[i])];
    if (drawn < sum) return order[i];
  }
  return order[count - 1];
}

}  // namespace helix
