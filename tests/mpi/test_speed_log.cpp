#include <catch2/catch.hpp>

#include "rank.hpp"
#include "sweeps/measure/speed_log.hpp"

namespace helix {

TEST_CASE("run.json hears of every rank's clocks and throttling") {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  SpeedLog log;
  const auto nothing = log.gather(MPI_COMM_WORLD);
  if (rank == 0) CHECK(nothing.is_null());
  log.add({.clock_mhz = 1900.0 + rank, .throttles = {"software power cap"}});
  log.add({.clock_mhz = 1800, .throttles = {}});
  if (rank == world_size() - 1) log.add({.clock_mhz = 0, .throttles = {"hardware slowdown"}});
  const auto json = log.gather(MPI_COMM_WORLD);
  if (rank != 0) return;
  REQUIRE(json.size() == static_cast<std::size_t>(world_size()));
  for (int r = 0; r < world_size(); ++r) {
    const auto& of_rank = json[static_cast<std::size_t>(r)];
    CHECK(of_rank["clock_mhz_least"] == 1800);
    CHECK(of_rank["clock_mhz_most"] == 1900 + r);
    CHECK(of_rank["throttle_reasons"].size() == (r == world_size() - 1 ? 2 : 1));
  }
}

}  // namespace helix
