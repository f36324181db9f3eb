// The Communicator over NCCL: device buffers, on the compute stream. One communicator for each group of the
// sharding, introduced to each other over MPI.
#pragma once

#include <cuda_runtime_api.h>
#include <mpi.h>
#include <nccl.h>

#include <memory>
#include <vector>

#include "kernels/communicator.hpp"

namespace helix::cuda {

/// The communicators in use. A peer that is lost shows as an asynchronous error, not as a failing call:
/// without looking for it, a rank would wait for ever.
class NcclWatch {
 public:
  void add(ncclComm_t comm) { comms_.push_back(comm); }
  /// False if it has been aborted.
  bool remove(ncclComm_t comm) { return std::erase(comms_, comm) > 0; }
  /// Throws if one of them has failed, after aborting all, so that nothing waits on the device any more.
  void check();

 private:
  std::vector<ncclComm_t> comms_;
};

/// Owns `comm`, which is freed with the object. `watch` must outlive it.
std::unique_ptr<Communicator> make_nccl_communicator(MPI_Comm comm, cudaStream_t stream, NcclWatch& watch);

}  // namespace helix::cuda
