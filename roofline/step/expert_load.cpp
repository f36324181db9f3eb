#include "roofline/step/expert_load.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <unordered_map>
#include <vector>

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

/// How likely a token chooses each expert, the most popular one first.
std::vector<double> chosen_shares(std::int64_t experts, std::int64_t top_k, double skew) {
  double all = 0;
  for (std::int64_t i = 1; i <= experts; ++i) all += std::pow(real(i), -skew);
  std::vector<double> shares;
  for (std::int64_t i = 1; i <= experts; ++i)
    shares.push_back(std::min(1.0, real(top_k) * std::pow(real(i), -skew) / all));
  return shares;
}

/// Load of the rank that holds the `local` most popular experts.
RoutedLoad favourites_load(std::int64_t local, std::int64_t experts, std::int64_t top_k, std::int64_t tokens,
                           double skew) {
  const std::vector<double> shares = chosen_shares(experts, top_k, skew);
  RoutedLoad load;
  for (std::int64_t i = 0; i < local; ++i) {
    const double chosen = shares[static_cast<std::size_t>(i)];
    load.active_experts += 1 - std::pow(1 - chosen, real(tokens));
    load.pairs += real(tokens) * chosen;
  }
  return load;
}

/// Of the busiest of the ranks that hold `local` of `experts` each and have this load in the mean.
RoutedLoad busiest_load(const RoutedLoad& mean, std::int64_t local, std::int64_t experts) {
  const std::int64_t ranks = ceil_div(experts, local);
  if (ranks == 1) return mean;
  const double share = real(local) / real(experts), active = mean.active_experts / real(local);
  const double variance =
      real(local) * active * (1 - active) * (1 - share) * real(experts) / real(experts - 1);
  const double n = real(ranks);
  const double busiest = std::clamp(
      mean.active_experts + std::sqrt(variance * n / (n - 1)) * expected_maximum(ranks), 1.0, real(local));
  return {busiest, mean.pairs * busiest / mean.active_experts};
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
  return busiest_load({expected_active_experts(local, experts, top_k, tokens),
                       real(tokens * top_k) * real(local) / real(experts)},
                      local, experts);
}

RoutedLoad balanced_load(std::int64_t local, std::int64_t experts, std::int64_t redundant, std::int64_t top_k,
                         std::int64_t tokens, double skew) {
  struct Copies {
    double chosen = 0, count = 1;  // by how much of a token
    double each() const { return chosen / count; }
  };
  const std::vector<double> popularity = chosen_shares(experts, top_k, skew);
  std::vector<Copies> all;
  for (const double chosen : popularity) all.push_back({.chosen = chosen});
  const auto busier = [](const Copies& a, const Copies& b) { return a.each() < b.each(); };
  std::ranges::make_heap(all, busier);
  for (std::int64_t i = 0; i < redundant; ++i) {
    std::ranges::pop_heap(all, busier);
    all.back().count += 1;
    std::ranges::push_heap(all, busier);
  }
  const double ranks = real(experts + redundant) / real(local);
  RoutedLoad mean;
  for (const Copies& copies : all) {
    mean.active_experts += copies.count * (1 - std::pow(1 - copies.each(), real(tokens))) / ranks;
    mean.pairs += real(tokens) * copies.chosen / ranks;
  }
  const RoutedLoad busiest = busiest_load(mean, local, experts + redundant);
  // No rank has less to do than the busiest copy.
  return {busiest.active_experts, std::max(busiest.pairs, real(tokens) * all.front().each())};
}

}  // namespace helix
