#include <catch2/catch.hpp>
#include <thread>

#include "mpi/rank.hpp"
#include "sweeps/measure/energy_meter.hpp"

namespace helix {
namespace {

class CountingDevice final : public DeviceProbe {
 public:
  double read_bandwidth_bytes_per_s(std::span<const std::byte>, double) override { return 1; }
  double matrix_peak_flops_per_s(DType, double) override { return 1; }
  std::optional<double> energy_joules() const override { return joules; }
  std::optional<double> joules = 1000;
};

}  // namespace

TEST_CASE("the power of a row is the mean of its ranks' devices, where all of them count it") {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  CountingDevice device;
  const EnergyMeter meter(device);
  const auto begin = std::chrono::steady_clock::now();
  CHECK_FALSE(meter.mean_watts(MPI_COMM_WORLD));  // too short a time
  std::this_thread::sleep_for(EnergyMeter::shortest);
  *device.joules += 100.0 * (rank + 1);
  const auto watts = meter.mean_watts(MPI_COMM_WORLD);
  const double longest_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  REQUIRE(watts);
  const double mean_joules = 100.0 * (world_size() + 1) / 2;
  CHECK(*watts <= mean_joules / 0.5);
  CHECK(*watts >= 0.5 * mean_joules / longest_s);  // ranks begin one after the other
  if (rank == world_size() - 1) device.joules.reset();
  CHECK_FALSE(meter.mean_watts(MPI_COMM_WORLD));
}

}  // namespace helix
