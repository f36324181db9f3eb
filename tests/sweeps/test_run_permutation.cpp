#include "sweeps/run_permutation.hpp"

#include <catch2/catch.hpp>

#include <cmath>

using helix::run_movements;
using helix::RunMovements;
using helix::smallest_p;

TEST_CASE("Permutation of runs: the smallest p-value is one labelling of all") {
  CHECK(smallest_p(1, 1) == 1.0 / 2);
  CHECK(smallest_p(3, 3) == 1.0 / 20);
  CHECK(smallest_p(5, 5) == 1.0 / 252);
  CHECK(smallest_p(5, 6) == 1.0 / 462);
  CHECK(smallest_p(12, 12) == 1.0 / 10'000);  // 2,704,156 labellings are not tried one by one
}

TEST_CASE("Permutation of runs: one row, by hand") {
  // A single row has nothing beside the common part. Slower in every run: of the 6 labellings of 2 and 2 runs
  // only the observed one reaches this difference; faster by at least as much are all.
  const RunMovements moved = run_movements({2, 2, {{100, 101, 110, 111}}});
  CHECK(moved.common.p_slower == Approx(1.0 / 6));
  CHECK(moved.common.p_faster == 1.0);
  CHECK(moved.common.shift == Approx(0.5 * std::log(110.0 * 111.0 / (100.0 * 101.0))));
  CHECK(moved.own[0].shift == 0.0);
  CHECK(moved.own[0].p_slower == 1.0);
}

TEST_CASE("Permutation of runs: a mode that has a whole run hides no row") {
  // The third run of each side is half as fast again as the others; row 4 is 5 % slower in NEW.
  helix::RepeatedRuns runs{5, 5, {}};
  for (int row = 0; row < 7; ++row) {
    std::vector<double> medians;
    for (int run = 0; run < 10; ++run) {
      const double jitter = 1.0 + 0.002 * std::sin(7.0 * row + 3.0 * run);
      medians.push_back(100.0 * (row + 1) * jitter * (run % 5 == 2 ? 1.5 : 1.0) *
                        (row == 4 && run >= 5 ? 1.05 : 1.0));
    }
    runs.medians_us.push_back(medians);
  }
  const RunMovements moved = run_movements(runs);
  CHECK(moved.own[4].p_slower == Approx(1.0 / 252));
  CHECK(moved.own[4].shift == Approx(std::log(1.05)).margin(0.004));  // the jitter
  for (const std::size_t row : {0, 1, 2, 3, 5, 6}) CHECK(moved.own[row].p_slower > 0.005);
  CHECK(moved.common.p_slower > 0.1);
}

TEST_CASE("Permutation of runs: equal runs have not moved") {
  const RunMovements moved = run_movements({3, 3, {{5, 5, 5, 5, 5, 5}, {7, 7, 7, 7, 7, 7}}});
  CHECK(moved.common.p_slower == 1.0);
  CHECK(moved.own[1].p_faster == 1.0);
  CHECK(moved.own[1].shift == 0.0);
}

TEST_CASE("Permutation of runs: many runs are judged by random labellings, the observed one among them") {
  std::vector<double> medians;
  for (int run = 0; run < 20; ++run) medians.push_back((run < 10 ? 100.0 : 105.0) + 0.1 * (run % 3));
  const RunMovements moved = run_movements({10, 10, {medians}});
  CHECK(moved.common.p_slower >= 1e-4);
  CHECK(moved.common.p_slower < 5e-4);  // another perfect separation among 10,000 of 184,756: 0.05 expected
}
