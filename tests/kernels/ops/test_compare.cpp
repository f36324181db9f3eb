#include "tests/compare.hpp"

#include <catch2/catch.hpp>
#include <cmath>

using namespace helix::testing;

TEST_CASE("the comparison helpers see NaN, infinities and lengths") {
  using V = std::vector<double>;
  CHECK(relative_error(V{1, 2}, V{1, 2}) == 0.0);
  CHECK(relative_error(V{3, 4.5}, V{3, 4}) == Approx(0.1));
  CHECK(relative_error(V{1, NAN}, V{1, 2}) == HUGE_VAL);
  CHECK(relative_error(V{1, 2}, V{1, NAN}) == HUGE_VAL);
  CHECK(relative_error(V{HUGE_VAL}, V{-HUGE_VAL}) == HUGE_VAL);
  CHECK(relative_error(V{NAN, 1}, V{NAN, 1}) == 0.0);
  CHECK(relative_error(V{1}, V{0}) == HUGE_VAL);
  CHECK(relative_error(V{1}, V{1, 2}) == HUGE_VAL);
  CHECK(first_difference(V{1, NAN}, V{1, 2}, 1e9) != "");
  CHECK(first_difference(V{1, 2}, V{1, NAN}, 1e9) != "");
  CHECK(first_difference(V{5}, V{HUGE_VAL}, 1.0) != "");
  CHECK(first_difference(V{HUGE_VAL}, V{5}, 1.0) != "");
  CHECK(first_difference(V{NAN, HUGE_VAL}, V{NAN, HUGE_VAL}, 0.0) == "");
  CHECK(first_difference(V{1.1}, V{1.0}, 0.05) != "");
  CHECK(first_difference(V{1.04}, V{1.0}, 0.05) == "");
}
