// The command `sweep`: measures every point of the request that fits this world, prediction beside each.
#pragma once

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Runs between MPI_Init and MPI_Finalize on every rank of the world (see run_with_mpi). Returns
/// the exit code.
int run_sweep(const SweepRequest& request);

}  // namespace helix
