// How often `compare` is wrong: simulated comparisons of 16 rows with seeded noise, of which docs/compare.md shows the
// table (`test_sweeps "[table]"` prints it). A false alarm is a comparison of one program with itself in
// which any row is called regressed.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdio>
#include <vector>

#include "simulated_runs.hpp"
#include "sweeps/compare/comparison.hpp"

using namespace helix;
using helix::testing::Noise;
using helix::testing::RunSimulator;

namespace {

// Under the sanitizers, which are ten times slower, too few are simulated to tell rates from their chance: there the cases
// show that nothing is accessed out of bounds, and the rates are those of the other builds.
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t quick = 50;
constexpr bool rates_known = false;
#else
constexpr std::size_t quick = 300;
constexpr bool rates_known = true;
#endif

/// Shares of comparisons.
struct Rates {
  double false_alarms, found;
};

double false_alarms(const Noise& noise, std::size_t runs, std::size_t comparisons) {
  RunSimulator simulator(noise, 20261122);
  std::size_t alarms = 0;
  for (std::size_t i = 0; i < comparisons; ++i) {
    alarms += compare_runs(simulator.runs(runs), simulator.runs(runs), {}).failed();
  }
  return static_cast<double>(alarms) / static_cast<double>(comparisons);
}

void check_at_most(double rate, double bound) {
  CHECK(rate <= (rates_known ? bound : 1.0));
}

void check_at_least(double rate, double bound) {
  CHECK(rate >= (rates_known ? bound : 0.0));
}

/// A single row is 5 % slower, and is called so.
double found(const Noise& noise, std::size_t runs, std::size_t comparisons) {
  RunSimulator simulator(noise, 42);
  std::size_t detected = 0;
  for (std::size_t i = 0; i < comparisons; ++i) {
    const Comparison c = compare_runs(simulator.runs(runs), simulator.runs(runs, 1), {});
    detected += std::ranges::any_of(c.rows, [](const ComparedRow& row) {
      return row.verdict == Verdict::regressed && row.id == "row 0";
    });
  }
  return static_cast<double>(detected) / static_cast<double>(comparisons);
}

struct Case {
  const char* name;
  Noise noise;
  double found_5, found_8;  // at least, with so many runs a side
};

const std::vector<Case> cases = {
    {"independent samples, 1 to 3 %", {}, 0.98, 0.98},
    {"samples like AR(1), coefficient 0.9, 2 %",
     {.least_deviation = 0.02, .most_deviation = 0.02, .correlation = 0.9},
     0.9,
     0.98},
    {"3 of 10 runs 8 % slower as a whole",
     {.row_deviation = 0.007, .of_run = {.share_slow = 0.3}},
     0.98,
     0.98},
    {"1 of 10 samples 8 % slower", {.of_samples = {.share_slow = 0.1}}, 0.98, 0.98},
    {"a row of 1 run in 20 8 % slower", {.of_row_in_run = {.share_slow = 0.05}}, 0.95, 0.95},
    {"3 % from run to run in all rows alike", {.run_deviation = 0.03}, 0.98, 0.98},
    {"1 % from run to run in each row", {.row_deviation = 0.01}, 0.97, 0.98},
    // No test finds more than 72 % of these with five runs: a 5 % shift is 3.86 standard errors of a
    // difference of five 2 % means, and 1 % false alarms over 16 rows ask for 3.2 standard errors even where
    // the noise is known exactly.
    {"2 % from run to run in each row", {.row_deviation = 0.02}, 0.5, 0.75},
    {"the same and 3 % in all rows alike", {.row_deviation = 0.02, .run_deviation = 0.03}, 0.5, 0.75},
    // Nor is a 5 % slower row to be told from rows that are 8 % slower at random in 3 runs of 10.
    {"a row of 3 runs in 10 8 % slower",
     {.row_deviation = 0.007, .of_row_in_run = {.share_slow = 0.3}},
     0,
     0},
};

}  // namespace

TEST_CASE("compare, five runs a side: at most 1 % false alarms, and 5 % slower is found", "[rates]") {
  for (const Case& c : cases) {
    INFO(c.name);
    check_at_most(false_alarms(c.noise, 5, quick), 0.01);
    check_at_least(found(c.noise, 5, quick / 2), c.found_5);
  }
}

TEST_CASE("compare, eight runs a side: 5 % slower is found under 2 % of noise from run to run", "[rates]") {
  for (const Case& c : cases) {
    if (c.noise.row_deviation != 0.02) continue;
    INFO(c.name);
    check_at_most(false_alarms(c.noise, 8, quick), 0.01);
    check_at_least(found(c.noise, 8, quick / 2), c.found_8);
  }
}

TEST_CASE("compare, one run a side: no alarm within what runs differ by", "[rates]") {
  for (const Case& c : cases) {
    if (c.noise.of_row_in_run.share_slow > 0) continue;  // two runs cannot tell these from a slower row
    INFO(c.name);
    // Of two runs 3 % of noise from run to run makes one in fifty that is 9 % slower than the other.
    check_at_most(false_alarms(c.noise, 1, quick), c.noise.run_deviation > 0 ? 0.04 : 0.02);
  }
  check_at_least(found(cases[0].noise, 1, quick), 0.75);
}

TEST_CASE("compare: few rows and few runs raise no more alarms", "[rates]") {
  for (const std::size_t rows : {1, 2, 3, 4}) {
    for (const std::size_t runs : {1, 2, 3, 5}) {
      INFO(rows << " rows, " << runs << " runs");
      const Noise noise{.rows = rows, .samples = 20, .row_deviation = 0.02};
      check_at_most(false_alarms(noise, runs, quick), 0.02);
    }
  }
  check_at_least(found({.rows = 1, .samples = 20, .row_deviation = 0.005}, 3, quick), 0.9);
  check_at_least(found({.rows = 2, .samples = 20, .row_deviation = 0.005}, 3, quick), 0.85);
}

TEST_CASE("compare: rows of very different noise", "[rates]") {
  const Noise noise{.least_deviation = 0.001, .most_deviation = 0.3};
  check_at_most(false_alarms(noise, 5, 3 * quick), 0.01);
  check_at_most(false_alarms(noise, 1, quick), 0.02);
}

TEST_CASE("compare: all rows slower alike", "[rates]") {
  const auto share = [](const Noise& noise, std::size_t runs, double slowdown) {
    RunSimulator simulator(noise, 7);
    std::size_t failed = 0;
    for (std::size_t i = 0; i < quick / 3; ++i) {
      const std::vector<StoredRun> base = simulator.runs(runs);
      std::vector<StoredRun> head;
      for (std::size_t r = 0; r < runs; ++r) head.push_back(simulator.run(noise.rows, slowdown));
      failed += compare_runs(base, head, {}).failed();
    }
    return static_cast<double>(failed) / static_cast<double>(quick / 3);
  };
  CHECK(share({.row_deviation = 0.007}, 5, 0.05) >= 0.98);
  CHECK(share({.row_deviation = 0.007, .run_deviation = 0.01}, 5, 0.06) >= 0.9);
  CHECK(share({.row_deviation = 0.007, .run_deviation = 0.03}, 5, 0.05) <=
        0.3);  // within what runs differ by
  CHECK(share({}, 1, 0.15) >= 0.98);
  CHECK(share({}, 1, 0.05) <= 0.02);
}

// docs/compare.md's table, and the bounds with ten times as many comparisons.
TEST_CASE("compare: the table of its rates", "[.][table]") {
  constexpr std::size_t many = 10 * quick;
  std::printf(
      "| noise | one run: false | five runs: false | 5 %% slower found | eight runs: false | found |\n"
      "|---|---|---|---|---|---|\n");
  for (const Case& c : cases) {
    const double one = false_alarms(c.noise, 1, many);
    const Rates five{false_alarms(c.noise, 5, many), found(c.noise, 5, many)};
    const Rates eight{false_alarms(c.noise, 8, many / 3), found(c.noise, 8, many / 3)};
    std::printf("| %s | %.1f %% | %.1f %% | %.0f %% | %.1f %% | %.0f %% |\n", c.name, 100 * one,
                100 * five.false_alarms, 100 * five.found, 100 * eight.false_alarms, 100 * eight.found);
    std::fflush(stdout);
    CHECK(five.false_alarms <= 0.012);
    CHECK(eight.false_alarms <= 0.014);
    CHECK(five.found >= c.found_5);
    CHECK(eight.found >= c.found_8);
  }
}
