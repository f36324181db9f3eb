#include <catch2/catch.hpp>

#include <fstream>

#include "scratch_folder.hpp"
#include "sweeps/machine/run_calibrate.hpp"

using namespace helix;

TEST_CASE("a system file of noisy figures is only written where that is wanted") {
  const ScratchFolder scratch;
  const auto out = scratch.path / "here.yaml";
  CalibrateRequest request;
  request.out = out;
  request.quiet = true;
  SystemSpec system = load_system("h100");
  CHECK(write_calibration(system, 2, request) == 0);
  CHECK(std::filesystem::remove(out));

  system.dram.spread = 3;
  CHECK(write_calibration(system, 2, request) == 1);
  CHECK_FALSE(std::filesystem::exists(out));
  request.force = true;
  CHECK(write_calibration(system, 2, request) == 0);
  CHECK(std::filesystem::exists(out));
}
