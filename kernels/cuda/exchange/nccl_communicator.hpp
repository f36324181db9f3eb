// The Communicator over NCCL: device buffers, on the compute stream. One communicator for each group of the
// sharding, introduced to each other over MPI.
#pragma once

#include <cuda_runtime_api.h>
#include <mpi.h>

#include <memory>

#include "kernels/comm/communicator.hpp"
#include "kernels/cuda/exchange/nccl_link.hpp"

namespace helix::cuda {

/// Takes `comm` over. Takes the group's link out of `pool` as long as it lives; `pool` and `watch`
/// must outlive it.
std::unique_ptr<Communicator> make_nccl_communicator(MPI_Comm comm, cudaStream_t stream, const Gpu& gpu,
                                                     NcclPool& pool, NcclWatch& watch);

}  // namespace helix::cuda
