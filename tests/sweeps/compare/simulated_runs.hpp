// Run directories that nobody measured: rows with known noise and known modes.
#pragma once

#include <fmt/format.h>

#include <cmath>
#include <random>
#include <vector>

#include "sweeps/results/stored_run.hpp"

namespace helix::testing {

/// Two modes: a part of the units is slower.
struct Modes {
  double share_slow = 0, slowdown = 0.08;
};

struct Noise {
  std::size_t rows = 16, samples = 40;
  double least_deviation = 0.01, most_deviation = 0.03;  // lognormal samples, each row's own
  double correlation = 0;                                // of samples that follow each other: AR(1)
  double row_deviation = 0;                              // lognormal, of a row's part of a run
  double run_deviation = 0;                              // lognormal, of all of a run
  // Independent in each sample, each row of a run, each run.
  Modes of_samples = {}, of_row_in_run = {}, of_run = {};
};

class RunSimulator {
 public:
  RunSimulator(const Noise& noise, unsigned seed) : noise_(noise), random_(seed) {
    for (std::size_t i = 0; i < noise.rows; ++i) {
      typical_us_.push_back(std::exp(std::uniform_real_distribution(5.0, 13.0)(random_)));  // 0.15 to 440 ms
      deviations_.push_back(
          std::uniform_real_distribution(noise.least_deviation, noise.most_deviation)(random_));
    }
  }

  /// A run in which the first `slower_rows` rows are slower by `slowdown`.
  StoredRun run(std::size_t slower_rows = 0, double slowdown = 0.05) {
    StoredRun run{.directory = "simulated", .commit = "c0ffee", .complete = true, .machine = {}, .rows = {}};
    const double of_run = mode(noise_.of_run) * lognormal(noise_.run_deviation);
    for (std::size_t i = 0; i < noise_.rows; ++i) {
      StoredRow row{.id = fmt::format("row {}", i),
                    .status = Status::ok,
                    .reason = {},
                    .model = "m",
                    .roofline_ttl_us = typical_us_[i] / 2,
                    .samples_us = {}};
      const double centre = typical_us_[i] * of_run * mode(noise_.of_row_in_run) *
                            lognormal(noise_.row_deviation) * (i < slower_rows ? 1.0 + slowdown : 1.0);
      const double r = noise_.correlation, innovation = std::sqrt(1 - r * r);
      double state = normal_(random_);
      for (std::size_t k = 0; k < noise_.samples; ++k) {
        row.samples_us.push_back(centre * mode(noise_.of_samples) * std::exp(deviations_[i] * state));
        state = r * state + innovation * normal_(random_);
      }
      run.rows.push_back(std::move(row));
    }
    return run;
  }

  std::vector<StoredRun> runs(std::size_t count, std::size_t slower_rows = 0) {
    std::vector<StoredRun> side;
    for (std::size_t i = 0; i < count; ++i) side.push_back(run(slower_rows));
    return side;
  }

 private:
  double mode(const Modes& modes) {
    if (modes.share_slow == 0) return 1.0;
    return std::bernoulli_distribution(modes.share_slow)(random_) ? 1.0 + modes.slowdown : 1.0;
  }
  double lognormal(double deviation) { return deviation == 0 ? 1.0 : std::exp(deviation * normal_(random_)); }

  Noise noise_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::vector<double> typical_us_, deviations_;
};

}  // namespace helix::testing
