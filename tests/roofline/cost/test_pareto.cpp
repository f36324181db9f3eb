#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <random>

#include "roofline/cost/pareto.hpp"

using namespace helix;

namespace {

/// By definition: no other point is at least as good in both and better in one; of equals the first.
std::vector<std::size_t> front_by_definition(const std::vector<ParetoPoint>& points) {
  std::vector<std::size_t> front;
  for (std::size_t i = 0; i < points.size(); ++i) {
    bool kept = true;
    for (std::size_t j = 0; j < points.size() && kept; ++j) {
      const ParetoPoint a = points[j], b = points[i];
      const bool as_good =
          a.tokens_per_s_user >= b.tokens_per_s_user && a.tokens_per_s_gpu >= b.tokens_per_s_gpu;
      const bool equal =
          a.tokens_per_s_user == b.tokens_per_s_user && a.tokens_per_s_gpu == b.tokens_per_s_gpu;
      if (as_good && (!equal || j < i)) kept = false;
    }
    if (kept) front.push_back(i);
  }
  std::sort(front.begin(), front.end(), [&](std::size_t a, std::size_t b) {
    return points[a].tokens_per_s_user > points[b].tokens_per_s_user;
  });
  return front;
}

}  // namespace

TEST_CASE("The Pareto frontier is that of the definition, ties included") {
  std::mt19937 random(7);
  for (int levels : {3, 10, 1000000}) {
    for (int trial = 0; trial < 30; ++trial) {
      std::vector<ParetoPoint> points(200);
      for (ParetoPoint& p : points) {
        p = {static_cast<double>(random() % levels), static_cast<double>(random() % levels)};
      }
      INFO(levels << " levels, trial " << trial);
      REQUIRE(pareto_front(points) == front_by_definition(points));
    }
  }
}

TEST_CASE("Points without a figure never join the frontier") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(pareto_front(std::vector<ParetoPoint>{{nan, 1}, {1, nan}, {1, 1}}) == std::vector<std::size_t>{2});
  CHECK(pareto_front({}).empty());
}
