#include "roofline/step/expert_load.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_map>

#include "roofline/base/arithmetic.hpp"

namespace helix {

double expected_active_experts(std::int64_t local, std::int64_t experts, std::int64_t top_k,
                               std::int64_t tokens) {
  const double missed = std::pow(1.0 - real(top_k) / real(experts), real(tokens));
  return real(local) * (1.0 - missed);
}

double expected_maximum(std::int64_t n) {
  if (n <= 1) return 0;
  // A search asks for the same few group sizes a million times.
  thread_local std::unordered_map<std::int64_t, double> known;
  const auto [entry, is_new] = known.try_emplace(n);
  if (!is_new) return entry->second;
  constexpr double step = 0.05, end = 8;
  double sum = 0;
  for (double x = -end; x <= end; x += step) {
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    const double below = std::erfc(-x / std::numbers::sqrt2) / 2;
    sum += x * real(n) * density * std::pow(below, real(n - 1)) * step;
  }
  return entry->second = sum;
}

namespace {

/// Load of the rank that holds the `local` most popular experts.
RoutedLoad favourites_load(std::int64_t local, std::int64_t experts, std::int64_t top_k, std::int64_t tokens,
                           double skew) {
  double all = 0;
  for (std::int64_t i = 1; i <= experts; ++i) all += std::pow(real(i), -skew);
  RoutedLoad load;
  for (std::int64_t i = 1; i <= local; ++i) {
    const double chosen = std::min(1.0, real(top_k) * std::pow(real(i), -skew) / all);
    load.active_experts += 1 - std::pow(1 - chosen, real(tokens));
    load.pairs += real(tokens) * chosen;
  }
  return load;
}

}  // namespace

RoutedLoad routed_load(std::int64_t local, std::int64_t experts, std::int64_t top_k, std::int64_t tokens,
                       double skew) {
  if (skew > 0) {
    const RoutedLoad uniform = routed_load(local, experts, top_k, tokens, 0);
    const RoutedLoad favourites = favourites_load(local, experts, top_k, tokens, skew);
    return {std::max(uniform.active_experts, favourites.active_experts),
            std::max(uniform.pairs, favourites.pairs)};
  }
  const double mean = expected_active_experts(local, experts, top_k, tokens);
  const double pairs = real(tokens * top_k) * real(local) / real(experts);
  const std::int64_t ranks = ceil_div(experts, local);
  if (ranks == 1) return {mean, pairs};
  const double share = real(local) / real(experts), active = mean / real(local);
  const double variance =
      real(local) * active * (1 - active) * (1 - share) * real(experts) / real(experts - 1);
  const double n = real(ranks);
  const double busiest =
      std::clamp(mean + std::sqrt(variance * n / (n - 1)) * expected_maximum(ranks), 1.0, real(local));
  return {busiest, pairs * busiest / mean};
}

}  // namespace helix
