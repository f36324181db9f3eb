// Measuring the machine itself, with the very kernels that the engine runs, all ranks of the group at once.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "kernels/ops/backend.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/system/system_spec.hpp"
#include "sweeps/launch/world.hpp"
#include "sweeps/machine/prober.hpp"

namespace helix {

/// What the calibration should look at closely: the shapes of the models that will be run. Empty lists: a
/// common selection.
struct CalibrationRequest {
  std::vector<ModelSpec> models;
  std::vector<DType> weight_dtypes{DType::bf16}, kv_dtypes{DType::bf16};
  ProbeEffort effort;
};

/// Collective over `group`. All its ranks measure at the same time, so rates are a rank's share of what the
/// node can do; of several ranks the slowest counts. Every rank returns the same system. `memory` is scratch
/// memory that grows to a multiple of the last-level cache. Figures that stay noisy are kept and named in the
/// system's origin "noisy".
SystemSpec calibrate(Backend& backend, MPI_Comm group, const World& world, const CalibrationRequest& request,
                     std::unique_ptr<Buffer>& memory);

/// The figures that were taken while the machine was busy, "dram (spread 3.4), gemm bf16 (spread 12)"; empty
/// if none.
std::string noisy_figures(const SystemSpec& system);

}  // namespace helix
