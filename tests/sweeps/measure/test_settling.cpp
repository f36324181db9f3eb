#include "sweeps/measure/settling.hpp"

#include <catch2/catch.hpp>

using namespace helix;

TEST_CASE("a device has settled when three windows agree about step and clock") {
  Settling rising;
  for (const double mhz : {345.0, 1200.0, 1755.0, 1980.0, 1980.0}) CHECK_FALSE(rising.add(1e6 / mhz, mhz));
  CHECK(rising.add(1e6 / 1980, 1980));

  // Its steps are bound by memory and do not show that the clock still falls.
  Settling warming;
  for (const double mhz : {1980.0, 1950.0, 1920.0, 1890.0, 1875.0, 1875.0})
    CHECK_FALSE(warming.add(500, mhz));
  CHECK(warming.add(500, 1870));

  Settling disturbed;
  for (const double us : {100.0, 100.0, 103.0, 100.0, 100.0}) CHECK_FALSE(disturbed.add(us, 1980));
  CHECK(disturbed.add(100, 1980));
}

TEST_CASE("a device that does not say its clock settles by its steps") {
  Settling settling;
  CHECK_FALSE(settling.add(100.0, 0));
  CHECK_FALSE(settling.add(100.3, 0));
  CHECK(settling.add(100.4, 0));
  CHECK_FALSE(settling.add(101.0, 0));
}
