#include "kernels/cuda/exchange/exposed_memory.hpp"

#include <cuda_runtime_api.h>

#include <exception>

#include "kernels/comm/agreement.hpp"
#include "kernels/cuda/exchange/nccl_check.hpp"

namespace helix::cuda {

ExposedMemory::ExposedMemory(ncclComm_t comm, MPI_Comm group, const ExchangedMemory& memory) : comm_(comm) {
  if (make_window(group, memory)) return;
  HELIX_NCCL(ncclCommRegister(comm_, memory.data, memory.bytes, &handle_));
}

ExposedMemory::~ExposedMemory() {
  if (std::uncaught_exceptions() > 0) return;
  if (handle_ != nullptr) ncclCommDeregister(comm_, handle_);
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
  if (window_ != nullptr) ncclCommWindowDeregister(comm_, window_);
#endif
}

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
// A collective over windows takes every rank's arrays for those at its own offsets: another layout anywhere would be
// a wrong result, not an error.
bool ExposedMemory::make_window(MPI_Comm group, const ExchangedMemory& memory) {
  const bool symmetric = alike(group, {memory.shareable ? 1u : 0u, memory.bytes, memory.layout});
  if (!symmetric || !memory.shareable) return false;
  const ncclResult_t made =
      ncclCommWindowRegister(comm_, memory.data, memory.bytes, &window_, NCCL_WIN_COLL_SYMMETRIC);
  const bool mine = made == ncclSuccess && window_ != nullptr;
  if (alike(group, {mine ? 1u : 0u})) return mine;
  if (mine) HELIX_NCCL(ncclCommWindowDeregister(comm_, window_));
  window_ = nullptr;
  return false;
}
#else
bool ExposedMemory::make_window(MPI_Comm, const ExchangedMemory&) {
  return false;
}
#endif

}  // namespace helix::cuda
