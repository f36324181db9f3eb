// What ranks of a group need to exchange data over NCCL: the communicator, memory that it knows, and the
// stream of exchanges in flight.
#pragma once

#include <cuda_runtime_api.h>
#include <mpi.h>
#include <nccl.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "kernels/cuda/device/gpu.hpp"
#include "kernels/cuda/exchange/exposed_memory.hpp"
#include "kernels/cuda/exchange/group_pool.hpp"
#include "kernels/ops/bf16.hpp"

namespace helix::cuda {

/// The communicators in use. A peer that is lost shows as an asynchronous error, not as a failing call:
/// without looking for it, a rank would wait for ever.
class NcclWatch {
 public:
  void add(ncclComm_t comm) { comms_.push_back(comm); }
  /// False if it has been aborted.
  bool remove(ncclComm_t comm) { return std::erase(comms_, comm) > 0; }
  /// Throws if one of them has failed, after aborting all.
  void check();
  /// So that nothing waits on the device any more.
  void abort_all();

 private:
  std::vector<ncclComm_t> comms_;
};

/// Device memory that peers are let at.
class RegisteredMemory {
 public:
  RegisteredMemory(ncclComm_t comm, MPI_Comm group) : comm_(comm), group_(group) {}
  ~RegisteredMemory() { release(); }
  RegisteredMemory(const RegisteredMemory&) = delete;
  RegisteredMemory& operator=(const RegisteredMemory&) = delete;

  /// Grows to the largest message of the stream in the first, unrecorded steps, where it waits
  /// for the device. Collective: all ranks ask for as much.
  BF16* at_least(std::size_t values, cudaStream_t stream);
  /// Before the communicator is destroyed.
  void release();
  /// With a communicator that has been aborted: the program is about to end.
  void leave() {
    data_ = nullptr;
    static_cast<void>(exposed_.release());
  }

 private:
  ncclComm_t comm_;
  MPI_Comm group_;
  void* data_ = nullptr;
  std::unique_ptr<ExposedMemory> exposed_;
  std::size_t bytes_ = 0;
};

class NcclLink {
 public:
  /// Introduces the ranks of `group`, which it takes over, to each other; collective over it.
  NcclLink(MPI_Comm group, const Gpu& gpu, NcclWatch& watch);
  ~NcclLink();
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  /// Null for a rank on its own, unless HELIX_NCCL_SINGLE_RANK is set.
  ncclComm_t comm() const { return comm_; }
  /// Of the same ranks, for exchanges in flight: its kernels have no more blocks than attention leaves multiprocessors to
  /// them. Null where comm() is. The first call makes it, collectively, outside of a recording of `stream`.
  ncclComm_t beside_compute(cudaStream_t stream);
  MPI_Comm group() const { return group_; }
  RegisteredMemory& scratch() { return scratch_; }

  /// The stream of exchanges in flight, before the compute stream in the device's queue.
  cudaStream_t side() const { return side_; }
  struct Slot {
    cudaEvent_t ready = nullptr, arrived = nullptr;
  };
  const Slot& slot(int slot);

 private:
  NcclWatch& watch_;
  MPI_Comm group_;
  int exchange_blocks_;
  ncclComm_t comm_;
  ncclComm_t beside_compute_ = nullptr;
  RegisteredMemory scratch_;
  cudaStream_t side_ = nullptr;
  std::vector<Slot> slots_;
};

using NcclPool = GroupPool<NcclLink>;

}  // namespace helix::cuda
