#include <catch2/catch.hpp>

#include "sweeps/progress.hpp"

using namespace helix;

TEST_CASE("the progress line says how far, what, and how long still") {
  CHECK(progress_line(0, 4, "a/b", 0.0) == "[0/4] a/b");
  CHECK(progress_line(1, 4, "a/b", 2.0) == "[1/4] a/b  6s left");
  CHECK(progress_line(2, 4, "a/b", 130.0) == "[2/4] a/b  2m10s left");
}
