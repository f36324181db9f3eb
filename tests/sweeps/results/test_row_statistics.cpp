#include <catch2/catch.hpp>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "roofline/base/statistics.hpp"
#include "sweeps/compare/holm.hpp"
#include "sweeps/compare/run_pair.hpp"
#include "sweeps/compare/shared_variance.hpp"
#include "sweeps/compare/student_t.hpp"

using namespace helix;

TEST_CASE("Student's t and the digamma functions have scipy's values") {
  // scipy 1.10: stats.t.sf, stats.t.isf, special.digamma, special.polygamma(1, ...)
  CHECK(student_t_tail(2.5, 8) == Approx(0.01847101885681206).epsilon(1e-12));
  CHECK(student_t_tail(-2.5, 8) == Approx(1 - 0.01847101885681206).epsilon(1e-12));
  CHECK(student_t_tail(3.4, 120.5) == Approx(0.00045722442878189025).epsilon(1e-11));
  CHECK(student_t_tail(0.3, 1) == Approx(0.4072264209222577).epsilon(1e-12));
  CHECK(student_t_tail(3, std::numeric_limits<double>::infinity()) ==
        Approx(0.0013498980316300933).epsilon(1e-12));
  CHECK(student_t_tail(0, 5) == Approx(0.5));
  CHECK(student_t_quantile(0.0004, 8) == Approx(5.222649741632273).epsilon(1e-10));
  CHECK(student_t_quantile(0.01, 3.3) == Approx(4.226609156667668).epsilon(1e-10));
  CHECK(student_t_quantile(0.5, 4) == Approx(0).margin(1e-9));
  CHECK(digamma(0.5) == Approx(-1.9635100260214235).epsilon(1e-10));
  CHECK(digamma(4) == Approx(1.2561176684318003).epsilon(1e-10));
  CHECK(trigamma(0.5) == Approx(4.93480220054468).epsilon(1e-10));
  CHECK(trigamma(4) == Approx(0.28382295573711525).epsilon(1e-10));
}

TEST_CASE("Holm: the smallest p-value counts for all, and the order of the adjusted ones is kept") {
  // 4 x 0.01; 3 x 0.015 = 0.045; 2 x 0.02 = 0.04, raised to 0.045; 1 x 0.9.
  CHECK(holm_adjusted(std::vector{0.02, 0.01, 0.9, 0.015}) == std::vector{0.045, 0.04, 0.9, 0.045});
  CHECK(holm_adjusted(std::vector{0.6, 0.7}) == std::vector{1.0, 1.0});
  CHECK(holm_adjusted(std::vector<double>{}).empty());
}

TEST_CASE("shared variance: equal rows are pooled, unequal ones keep to themselves") {
  std::mt19937_64 random(4);
  const auto variance = [&](double deviation, double freedom) {
    return deviation * deviation * std::chi_squared_distribution(freedom)(random) / freedom;
  };
  std::vector<double> equal, unequal;
  // Standard errors: 3.5 % of the pooled variance, 10 % of the freedom of the unequal ones.
  for (int i = 0; i < 200; ++i) equal.push_back(variance(2, 8));
  for (int i = 0; i < 2000; ++i) {
    // Variances drawn from a scaled inverse chi squared distribution of 6 degrees of freedom around 4.
    unequal.push_back(variance(std::sqrt(4 * 6 / std::chi_squared_distribution(6.0)(random)), 8));
  }
  const SharedVariance pooled = shared_variance(equal, 8);
  CHECK(std::isinf(pooled.freedom));
  CHECK(pooled.variance == Approx(4).epsilon(0.1));
  CHECK(pooled.moderated(100, 8) == pooled.variance);
  const SharedVariance prior = shared_variance(unequal, 8);
  CHECK(prior.freedom == Approx(6).epsilon(0.25));
  CHECK(prior.variance == Approx(4).epsilon(0.1));
  CHECK(prior.moderated(100, 8) == Approx((prior.freedom * prior.variance + 800) / (prior.freedom + 8)));
  CHECK(shared_variance(std::vector<double>{1, 2, 3}, 8).moderated(7, 8) == 7);
}

TEST_CASE("effective samples: independent ones count whole, AR(1) ones by (1 - r) / (1 + r)") {
  std::mt19937_64 random(6);
  std::normal_distribution<double> normal;
  double independent = 0, correlated = 0;
  for (int series = 0; series < 100; ++series) {
    std::vector<double> x, y{0};
    for (int i = 0; i < 400; ++i) {
      x.push_back(normal(random));
      y.push_back(0.9 * y.back() + normal(random));
    }
    independent += effective_samples(x) / 100;
    correlated += effective_samples(y) / 100;
  }
  CHECK(independent > 330);
  CHECK(independent <= 400);
  CHECK(correlated == Approx(401.0 / 19).epsilon(0.3));  // estimated from 20 correlation times
  CHECK(effective_samples(std::vector<double>(9, 3.0)) == 9);
}

TEST_CASE("a pair of runs: a row has to stand out from the scatter of all") {
  const auto row = [](double us, double factor) {
    SampledRow sampled;
    for (int i = 0; i < 20; ++i) {
      sampled.base_us.push_back(us * (1 + 1e-3 * (i % 7)));
      sampled.new_us.push_back(us * factor * (1 + 1e-3 * ((i + 3) % 7)));
    }
    return sampled;
  };
  std::vector<SampledRow> quiet, noisy;
  for (int i = 0; i < 12; ++i) {
    quiet.push_back(row(100 + i, 1 + 0.002 * std::sin(3.0 * i)));
    noisy.push_back(row(100 + i, 1 + 0.04 * std::sin(3.0 * i)));
  }
  for (std::vector<SampledRow>* rows : {&quiet, &noisy}) (*rows)[5] = row(105, 1.06);
  Movements moved = movements_of(quiet, 0.09, 0.01);
  CHECK(moved.own[5].p_slower < 1e-4);
  CHECK(moved.own[4].p_slower > 0.1);
  moved = movements_of(noisy, 0.09, 0.01);
  CHECK(moved.own[5].p_slower > 0.05);
  CHECK(moved.own[5].detectable > 0.1);

  // All rows alike: within what whole runs may differ by, or beyond it.
  for (const double factor : {1.07, 1.12}) {
    std::vector<SampledRow> alike;
    for (int i = 0; i < 12; ++i) alike.push_back(row(100 + i, factor * (1 + 0.002 * std::sin(3.0 * i))));
    moved = movements_of(alike, 0.09, 0.01);
    CHECK(moved.common.shift == Approx(std::log(factor)).margin(0.002));
    CHECK((moved.common.p_slower < 1e-6) == (factor > 1.09));
  }
  // Few rows have the same to move by.
  for (const double factor : {1.07, 1.12}) {
    moved = movements_of(std::vector{row(100, 1), row(50, factor)}, 0.09, 0.01);
    CHECK((moved.own[1].p_slower < 1e-6) == (factor > 1.09));
    CHECK(moved.common.shift == 0);
  }
  moved = movements_of(std::vector{row(100, 1), row(50, 1.07)}, 0, 0.01);
  CHECK(moved.own[1].p_slower < 1e-6);
}
