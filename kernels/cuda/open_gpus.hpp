// Every rank opens its GPU, or all of them learn why that cannot be.
#pragma once

#include <mpi.h>

#include <memory>

#include "kernels/ops/backend.hpp"

namespace helix::cuda {

/// Does any rank of the world have a GPU that this program can use? Collective.
bool any_gpu(MPI_Comm world);

/// The backend of this rank's GPU; collective. Throws UsageError on all ranks, naming host and rank, if one
/// has no usable GPU, two share one, or they are not all alike.
std::unique_ptr<Backend> open_gpus(MPI_Comm world);

}  // namespace helix::cuda
