// Memory that NCCL knows, so that peers read it where it lies instead of through a staging buffer.
#pragma once

#include <mpi.h>
#include <nccl.h>

#include "kernels/comm/communicator.hpp"

namespace helix::cuda {

class ExposedMemory {
 public:
  /// Collective over `group`, the ranks of `comm`. Where the memory is alike on all of them, a window of symmetric memory,
  /// over which NCCL has kernels of its own for small messages; else, or where NCCL has no windows here (before 2.27,
  /// without NVLink, NCCL_WIN_ENABLE=0), a registered buffer.
  ExposedMemory(ncclComm_t comm, MPI_Comm group, const ExchangedMemory& memory);
  /// By an exception it leaves without a word.
  ~ExposedMemory();
  ExposedMemory(const ExposedMemory&) = delete;
  ExposedMemory& operator=(const ExposedMemory&) = delete;

 private:
  bool make_window(MPI_Comm group, const ExchangedMemory& memory);

  ncclComm_t comm_;
  void* handle_ = nullptr;
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  ncclWindow_t window_ = nullptr;
#endif
};

}  // namespace helix::cuda
