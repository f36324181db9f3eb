#include "sweeps/measure/energy_meter.hpp"

#include "kernels/comm/mpi_check.hpp"

namespace helix {

EnergyMeter::EnergyMeter(const DeviceProbe& device)
    : device_(device), begin_joules_(device.energy_joules()), begin_(Clock::now()) {}

std::optional<double> EnergyMeter::mean_watts(MPI_Comm comm) const {
  const std::optional<double> now_joules = device_.energy_joules();
  const Clock::duration time = Clock::now() - begin_;
  const bool known = begin_joules_ && now_joules && time >= shortest;
  struct {
    double watts = 0, ranks = 0, unknown = 0;
  } sum;
  sum.ranks = 1;
  if (known) {
    sum.watts = (*now_joules - *begin_joules_) / std::chrono::duration<double>(time).count();
  } else {
    sum.unknown = 1;
  }
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &sum, 3, MPI_DOUBLE, MPI_SUM, comm));
  if (sum.unknown > 0) return std::nullopt;
  return sum.watts / sum.ranks;
}

}  // namespace helix
