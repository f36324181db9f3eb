// How fast the ranks' devices ran while they were measured: what run.json says of it.
#pragma once

#include <mpi.h>
#include <nlohmann/json.hpp>

#include <set>
#include <string>

#include "kernels/ops/device_probe.hpp"

namespace helix {

class SpeedLog {
 public:
  /// This rank's device, under load.
  void add(const DeviceSpeed& speed);

  /// For each rank in order its lowest and highest clock and all that held it back; null if no device said
  /// anything. Collective; the result is rank 0's.
  nlohmann::ordered_json gather(MPI_Comm comm) const;

 private:
  double least_mhz_ = 0, most_mhz_ = 0;  // 0: none yet
  std::set<std::string> throttles_;
};

}  // namespace helix
