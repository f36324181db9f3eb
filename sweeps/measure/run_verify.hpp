// The command `verify`: holds every sharding of the request against a single-rank high-precision reference.
#pragma once

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Runs between MPI_Init and MPI_Finalize on every rank of the world (see run_with_mpi). Returns
/// the exit code.
int run_verify(const SweepRequest& request);

}  // namespace helix
