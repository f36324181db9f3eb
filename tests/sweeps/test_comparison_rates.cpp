// How often `compare` is wrong, from simulated comparisons of 50 rows with seeded noise. A false alarm is a
// comparison of one program with itself in which any row is called regressed.
#include <catch2/catch.hpp>

#include <algorithm>

#include "simulated_runs.hpp"
#include "sweeps/comparison.hpp"

using namespace helix;
using helix::testing::Modes;
using helix::testing::Noise;
using helix::testing::RunSimulator;

namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t comparisons = 100;  // ten times slower
#else
constexpr std::size_t comparisons = 1000;
#endif
constexpr std::size_t one_percent = comparisons / 100, most_of_them = comparisons * 95 / 100;

std::size_t false_alarms(const Noise& noise, std::size_t runs) {
  RunSimulator simulator(noise, 20261122);
  std::size_t alarms = 0;
  for (std::size_t i = 0; i < comparisons; ++i) {
    alarms += compare_runs(simulator.runs(runs), simulator.runs(runs), {}).failed();
  }
  return alarms;
}

/// Comparisons that call at least one of the slower rows regressed.
std::size_t detections(const Noise& noise, std::size_t runs, std::size_t slower_rows) {
  RunSimulator simulator(noise, 42);
  std::size_t detected = 0;
  for (std::size_t i = 0; i < comparisons; ++i) {
    const Comparison c = compare_runs(simulator.runs(runs), simulator.runs(runs, slower_rows), {});
    bool found = false;
    for (std::size_t row = 0; row < slower_rows && !found; ++row) {
      found = std::ranges::any_of(c.rows, [&](const ComparedRow& r) {
        return r.verdict == Verdict::regressed && r.id == fmt::format("row {}", row);
      });
    }
    detected += found;
  }
  return detected;
}

// What the stopping rule of a sweep asks for: medians known to about 0.5 %.
const Noise lognormal{};
// Every sample of every row is 8 % slower in 3 cases of 10; such series are sampled for longer.
const Noise two_modes_in_a_run{.samples = 100, .of_samples = {.share_slow = 0.3}};
// Runs of a shared machine: rows differ by 0.7 % between runs, and 3 runs of 10 are 8 % slower as a whole ...
const Noise modes_of_runs{.samples = 15, .run_deviation = 0.007, .of_run = {.share_slow = 0.3}};
// ... or each row of each run for itself.
const Noise modes_of_rows{.samples = 15, .run_deviation = 0.007, .of_row_in_run = {.share_slow = 0.3}};

}  // namespace

TEST_CASE("compare, one run a side: at most 1 % false alarms") {
  CHECK(false_alarms(lognormal, 1) <= one_percent);
  CHECK(false_alarms(two_modes_in_a_run, 1) <= one_percent);
}

TEST_CASE("compare, one run a side: a row that is 5 % slower is found in 95 %") {
  CHECK(detections(lognormal, 1, 1) >= most_of_them);
  CHECK(detections(two_modes_in_a_run, 1, 1) >= most_of_them);
}

TEST_CASE("compare, one run a side: modes of whole runs look like changes, whatever the test") {
  CHECK(false_alarms(modes_of_runs, 1) > 15 * one_percent);  // NEW slow, BASE fast: 0.3 x 0.7 = 21 %
}

TEST_CASE("compare, five runs a side: at most 1 % false alarms under modes of runs") {
  CHECK(false_alarms(modes_of_runs, 5) <= one_percent);
  CHECK(false_alarms(modes_of_rows, 5) <= one_percent);
}

TEST_CASE("compare, five runs a side: 5 % slower is found in 95 % under modes of runs") {
  CHECK(detections(modes_of_runs, 5, 1) >= most_of_them);
  CHECK(detections(modes_of_rows, 5, 50) >= most_of_them);
}
