#include "sweeps/rank_test.hpp"

#include <catch2/catch.hpp>

#include <numeric>
#include <vector>

using helix::holm_adjusted;
using helix::mann_whitney_p;

namespace {

std::vector<double> from(double first, std::size_t count) {
  std::vector<double> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

}  // namespace

// The expected values are those of scipy 1.10.1, scipy.stats.mannwhitneyu(a, b, method=...).

TEST_CASE("Mann-Whitney: exact for short series without ties") {
  const std::vector<double> a{12.1, 11.8, 12.4, 12.0, 11.9, 12.3, 12.2, 11.7, 12.6};
  const std::vector<double> b{12.5, 12.7, 12.9, 11.95, 13.1, 12.8, 13.0, 12.35, 13.2};
  CHECK(mann_whitney_p(a, b) == Approx(0.0039901275195392836).epsilon(1e-12));  // exact; asymptotic: 0.00619
  CHECK(mann_whitney_p(b, a) == mann_whitney_p(a, b));
  CHECK(mann_whitney_p(from(1, 5), from(6, 6)) ==
        Approx(0.004329004329004329).epsilon(1e-12));  // 2 / C(11, 5)
  CHECK(mann_whitney_p(from(0, 20), from(4.5, 20)) == Approx(0.030411256038764864).epsilon(1e-12));
}

TEST_CASE("Mann-Whitney: normal approximation for ties and for long series") {
  const std::vector<double> a{1, 2, 2, 3, 3, 3, 4, 5, 5};
  const std::vector<double> b{2, 3, 4, 4, 5, 5, 6, 6, 7, 7};
  CHECK(mann_whitney_p(a, b) == Approx(0.031445621614229195).epsilon(1e-12));
  CHECK(mann_whitney_p(from(0, 25), from(6.5, 25)) == Approx(0.006222848471189992).epsilon(1e-12));
}

TEST_CASE("Mann-Whitney: what does not differ has p = 1") {
  const std::vector<double> equal(9, 1.0);
  CHECK(mann_whitney_p(equal, equal) == 1.0);
  const std::vector<double> inside{4.5, 4.6}, around{1, 9};
  CHECK(mann_whitney_p(inside, around) == 1.0);
}

TEST_CASE("Holm: the smallest p-value counts for all, and the order of the adjusted ones is kept") {
  // 4 x 0.01; 3 x 0.015 = 0.045; 2 x 0.02 = 0.04, raised to 0.045; 1 x 0.9.
  CHECK(holm_adjusted(std::vector{0.02, 0.01, 0.9, 0.015}) == std::vector{0.045, 0.04, 0.9, 0.045});
  CHECK(holm_adjusted(std::vector{0.6, 0.7}) == std::vector{1.0, 1.0});
  CHECK(holm_adjusted(std::vector<double>{}).empty());
}
