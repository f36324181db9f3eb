#include "sweeps/compare/repeated_runs.hpp"

#include <catch2/catch.hpp>

#include <cmath>

using helix::Movements;
using helix::movements_of;
using helix::RepeatedRuns;

namespace {

constexpr double level = 0.01;

/// `rows` rows in five runs a side, with a jitter of about 0.2 %.
RepeatedRuns quiet_runs(int rows) {
  RepeatedRuns runs{5, 5, {}};
  for (int row = 0; row < rows; ++row) {
    std::vector<double> medians;
    for (int run = 0; run < 10; ++run) {
      medians.push_back(100.0 * (row + 1) * (1.0 + 0.002 * std::sin(7.0 * row + 3.0 * run)));
    }
    runs.medians_us.push_back(medians);
  }
  return runs;
}

}  // namespace

TEST_CASE("Repeated runs: one row is a t test") {
  // Means of the logarithms 0.1 apart, standard deviation 0.02 within each side: t = 0.1 / (0.02 x
  // sqrt(2/3)), with 4 degrees of freedom a tail of 0.0018011 (scipy.stats.t.sf).
  RepeatedRuns runs{3, 3, {{}}};
  for (const double x : {-0.02, 0.0, 0.02, 0.08, 0.1, 0.12}) runs.medians_us[0].push_back(std::exp(x));
  const Movements moved = movements_of(runs, level);
  CHECK(moved.own[0].shift == Approx(0.1));
  CHECK(moved.own[0].p_slower == Approx(0.0018011).epsilon(1e-3));
  CHECK(moved.own[0].p_faster == Approx(1 - 0.0018011).epsilon(1e-3));
  CHECK(moved.common.shift == 0.0);  // nothing to tell a common part from
}

TEST_CASE("Repeated runs: a mode that has a whole run hides no row") {
  // The third run of each side is half as fast again as the others; row 4 is 5 % slower in NEW.
  RepeatedRuns runs = quiet_runs(7);
  for (int row = 0; row < 7; ++row) {
    for (const int run : {2, 7}) runs.medians_us[row][run] *= 1.5;
    for (int run = 5; row == 4 && run < 10; ++run) runs.medians_us[row][run] *= 1.05;
  }
  const Movements moved = movements_of(runs, level);
  CHECK(moved.own[4].p_slower < 1e-6);
  CHECK(moved.own[4].shift == Approx(std::log(1.05)).margin(0.004));  // the jitter
  for (const std::size_t row : {0, 1, 2, 3, 5, 6}) CHECK(moved.own[row].p_slower > 0.1);
  CHECK(moved.common.p_slower > 0.1);
}

TEST_CASE("Repeated runs: a slowdown of all rows alike is one of the common part") {
  RepeatedRuns runs = quiet_runs(8);
  for (std::vector<double>& row : runs.medians_us) {
    for (int run = 5; run < 10; ++run) row[static_cast<std::size_t>(run)] *= 1.05;
  }
  Movements moved = movements_of(runs, level);
  CHECK(moved.common.shift == Approx(std::log(1.05)).margin(0.002));
  CHECK(moved.common.p_slower < 1e-6);
  CHECK(moved.common.p_faster > 0.99);
  for (const helix::Movement& own : moved.own) CHECK(std::min(own.p_slower, own.p_faster) > 0.1);

  // Two runs of each side 20 % slower: it is within what runs differ by.
  for (std::vector<double>& row : runs.medians_us) {
    for (const std::size_t run : {1, 2, 6, 9}) row[run] *= 1.2;
  }
  moved = movements_of(runs, level);
  CHECK(moved.common.p_slower > 0.1);
  CHECK(moved.common.detectable > std::log(1.2));
}

TEST_CASE("Repeated runs: one disturbed run neither hides a slower row nor makes one") {
  RepeatedRuns runs = quiet_runs(10);
  for (int run = 5; run < 10; ++run) runs.medians_us[3][static_cast<std::size_t>(run)] *= 1.05;
  runs.medians_us[3][1] *= 1.4;   // of BASE
  runs.medians_us[6][8] *= 1.4;   // of NEW
  runs.medians_us[7][5] *= 1.08;  // three of five: the others are as fast as ever
  runs.medians_us[7][6] *= 1.08;
  runs.medians_us[7][9] *= 1.08;
  const Movements moved = movements_of(runs, level);
  CHECK(moved.own[3].p_slower < 1e-4);
  CHECK(moved.own[6].p_slower > 0.05);
  CHECK(moved.own[7].p_slower > 0.05);
}

TEST_CASE("Repeated runs: equal runs have not moved, and equal runs apart have") {
  const std::vector<double> still(6, 5.0), slower{7, 7, 7, 8, 8, 8};
  Movements moved = movements_of({3, 3, {still, still, still, still, still}}, level);
  CHECK(moved.common.p_slower == 1.0);
  CHECK(moved.own[1].shift == 0.0);
  CHECK(moved.own[1].p_faster == 1.0);
  moved = movements_of({3, 3, {still, still, slower, still, still}}, level);
  CHECK(moved.own[2].p_slower < 1e-6);
  CHECK(moved.own[1].p_slower == 1.0);
  CHECK(movements_of({3, 3, {}}, level).own.empty());
}

TEST_CASE("Repeated runs: a quiet row is told more precisely than a noisy one") {
  RepeatedRuns runs = quiet_runs(12);
  for (std::size_t run = 0; run < 10; ++run)
    runs.medians_us[0][run] *= 1.0 + 0.2 * std::cos(5.0 * static_cast<double>(run));
  const Movements moved = movements_of(runs, level);
  CHECK(moved.own[0].detectable > 10 * moved.own[5].detectable);
  CHECK(moved.own[5].detectable < 0.03);
}
