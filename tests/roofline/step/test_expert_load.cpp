#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>
#include <random>
#include <set>
#include <tuple>
#include <vector>

#include "roofline/step/expert_load.hpp"

using namespace helix;

TEST_CASE("Expected distinct experts: one token touches k, many touch all") {
  CHECK(expected_active_experts(256, 256, 8, 1) == Approx(8));
  CHECK(expected_active_experts(64, 256, 8, 1) == Approx(2));
  CHECK(expected_active_experts(64, 256, 8, 100000) == Approx(64));
}

TEST_CASE("The busiest rank's uniform load is that of simulated draws") {
  std::mt19937 random(7);
  for (const auto& [ranks, experts, top_k, tokens] : {std::tuple{2, 64, 6, 1},
                                                      {2, 64, 6, 4},
                                                      {4, 64, 6, 8},
                                                      {8, 256, 8, 4},
                                                      {32, 256, 8, 16},
                                                      {64, 256, 8, 1}}) {
    double sum = 0;
    constexpr int trials = 4000;
    for (int trial = 0; trial < trials; ++trial) {
      std::set<int> active;
      std::vector<int> deck(static_cast<std::size_t>(experts));
      std::iota(deck.begin(), deck.end(), 0);
      for (int t = 0; t < tokens; ++t) {
        std::shuffle(deck.begin(), deck.end(), random);
        active.insert(deck.begin(), deck.begin() + top_k);
      }
      std::vector<int> of_rank(static_cast<std::size_t>(ranks));
      for (int e : active) ++of_rank[static_cast<std::size_t>(e * ranks / experts)];
      sum += std::ranges::max(of_rank);
    }
    const double load = routed_load(experts / ranks, experts, top_k, tokens, 0).active_experts;
    CAPTURE(ranks, experts, top_k, tokens, sum / trials, load);
    // Normal values for small counts: right within a tenth, at the sparse end (less than one expert a
    // rank) a third.
    CHECK(load == Approx(sum / trials).epsilon(top_k * tokens < 2 * ranks ? 0.33 : 0.1));
  }
}

TEST_CASE("Skewed routing loads the rank of the favourites more, uniform routing is its limit") {
  const RoutedLoad uniform = routed_load(32, 256, 8, 16, 0);
  const RoutedLoad nearly = routed_load(32, 256, 8, 16, 1e-6);
  const RoutedLoad skewed = routed_load(32, 256, 8, 16, 1.2);
  CHECK(nearly.pairs == Approx(uniform.pairs).epsilon(1e-4));
  CHECK(nearly.active_experts == Approx(uniform.active_experts).epsilon(1e-4));
  CHECK(skewed.pairs > 2 * uniform.pairs);
  CHECK(skewed.pairs < 16 * 8);
  CHECK(skewed.active_experts > uniform.active_experts);
  CHECK(skewed.active_experts <= 32);
}

TEST_CASE("Copies of experts even out a skewed load, and without skew thin out what a rank reads") {
  const double skewed = routed_load(32, 256, 8, 64, 1).pairs;
  double before = skewed;
  for (const std::int64_t copies : {8, 32, 64}) {
    const std::int64_t local = (256 + copies) / 8;
    const RoutedLoad load = balanced_load(local, 256, copies, 8, 64, 1);
    CHECK(load.pairs < before);
    CHECK(load.pairs >= 64 * 8 / 8.0);  // an eighth of all
    CHECK(load.active_experts <= static_cast<double>(local));
    before = load.pairs + 1e-9;
  }
  // A copy of each: half as many tokens for each of twice as many.
  const RoutedLoad doubled = balanced_load(64, 256, 256, 8, 64, 0);
  CHECK(doubled.pairs == Approx(routed_load(32, 256, 8, 64, 0).pairs).epsilon(0.1));
  CHECK(doubled.active_experts > routed_load(32, 256, 8, 64, 0).active_experts);
}
