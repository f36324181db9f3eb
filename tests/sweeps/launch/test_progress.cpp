#include <catch2/catch.hpp>

#include "sweeps/launch/host_load.hpp"
#include "sweeps/launch/progress.hpp"
#include "sweeps/output/row_line.hpp"

using namespace helix;

namespace {

Measurement measured(std::size_t samples, double ttl_us, double rel_stderr) {
  Measurement m;
  m.samples = samples;
  m.samples_us.assign(samples, ttl_us);
  m.ttl_us = ttl_us;
  m.ttl_rel_stderr = rel_stderr;
  return m;
}

}  // namespace

TEST_CASE("the progress line says how far, what, and how long still") {
  CHECK(progress_line(0, 4, "a/b", 0.0) == "[0/4] a/b");
  CHECK(progress_line(1, 4, "a/b", 2.0) == "[1/4] a/b  6s left");
  CHECK(progress_line(2, 4, "a/b", 130.0) == "[2/4] a/b  2m10s left");
}

TEST_CASE("a row in a line: its time, how well it is known, and what is to be said of it") {
  ResultRow row;
  row.id = "m/tp/b1";
  row.reason = "cache-resident: all of it";
  row.measurement = measured(21, 106453, 0.0042);
  CHECK(row_line(row) == "m/tp/b1  106.453 ms +- 0.4 % of 21 samples; cache-resident: all of it");
  row.prediction = Prediction{};
  row.prediction->model_ttl_us = 106453 * 1.115;
  row.reason.clear();
  CHECK(row_line(row) == "m/tp/b1  106.453 ms +- 0.4 % of 21 samples, model +11.5 %");
  row.status = Status::skipped;
  row.reason = "does not fit";
  CHECK(row_line(row) == "skipped m/tp/b1: does not fit");
}

TEST_CASE("noisy rows and those of a busy machine say so, and are not trusted") {
  Measurement quiet = measured(40, 100, 0.01);
  CHECK(noise_caveat(quiet).empty());
  Measurement noisy = quiet;
  noisy.ttl_rel_stderr = 0.177;
  CHECK(noise_caveat(noisy) == "noisy: the median of 40 samples is known to 17.7 % only");
  // A slow wave: the standard error takes its samples for independent ones.
  for (std::size_t i = 0; i < 40; ++i) quiet.samples_us[i] = i < 20 ? 95 : 105;
  CHECK(noise_caveat(quiet).starts_with("noisy: "));

  CHECK(load_caveat(0.05, 2).empty());
  CHECK(load_caveat(0.8, 2) == "busy machine: others used 0.8 of 2 CPUs");
  ResultRow row;
  CHECK(trusted(row));
  row.reason = "cache-resident: a";
  CHECK(trusted(row));
  row.reason += "; " + load_caveat(0.8, 2);
  CHECK_FALSE(trusted(row));
  row.reason = noise_caveat(noisy);
  CHECK_FALSE(trusted(row));
  row = {};
  row.status = Status::skipped;
  CHECK_FALSE(trusted(row));
}

TEST_CASE("the machine's CPU time is what /proc/stat says, with what its host gave to others") {
  const double hz = static_cast<double>(sysconf(_SC_CLK_TCK));
  CHECK(machine_cpu_seconds("cpu  100 10 20 5000 300 1 2 50 0 0\ncpu0 1 1 1 1 1 1 1 1\n") ==
        Approx(183 / hz));
  CHECK_FALSE(machine_cpu_seconds("").has_value());
  CHECK_FALSE(machine_cpu_seconds("cpu 1 2").has_value());
}
