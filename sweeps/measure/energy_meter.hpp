// The power that the ranks' devices draw while a configuration is measured.
#pragma once

#include <mpi.h>

#include <chrono>
#include <optional>

#include "kernels/ops/device_probe.hpp"

namespace helix {

/// From its making on.
class EnergyMeter {
 public:
  explicit EnergyMeter(const DeviceProbe& device);

  /// Watts of a rank's device in the mean over the time and the ranks of `comm`; nothing where a device does not
  /// count its energy, or in too short a time: drivers bring the count up to date some ten times a second.
  /// Collective, the same on every rank.
  std::optional<double> mean_watts(MPI_Comm comm) const;

  static constexpr std::chrono::milliseconds shortest{500};

 private:
  using Clock = std::chrono::steady_clock;
  const DeviceProbe& device_;
  std::optional<double> begin_joules_;
  Clock::time_point begin_;
};

}  // namespace helix
