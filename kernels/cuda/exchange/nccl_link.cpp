#include "kernels/cuda/exchange/nccl_link.hpp"

#include <cstdlib>
#include <exception>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/cuda/device/cuda_check.hpp"
#include "kernels/cuda/device/graph.hpp"
#include "kernels/cuda/exchange/nccl_check.hpp"

namespace helix::cuda {
namespace {

ncclComm_t introduce(MPI_Comm group) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(group, &rank));
  HELIX_MPI(MPI_Comm_size(group, &size));
  // A rank on its own exchanges nothing, but for a try of NCCL on a single GPU.
  if (size == 1 && std::getenv("HELIX_NCCL_SINGLE_RANK") == nullptr) return nullptr;
  ncclUniqueId id{};
  if (rank == 0) HELIX_NCCL(ncclGetUniqueId(&id));
  HELIX_MPI(MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, group));
  ncclComm_t comm = nullptr;
  HELIX_NCCL(ncclCommInitRank(&comm, size, id, rank));
  return comm;
}

}  // namespace

void NcclWatch::check() {
  for (ncclComm_t comm : comms_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) continue;
    const std::string reason = std::string("NCCL: ") +
                               ncclGetErrorString(asked == ncclSuccess ? state : asked) + ", " +
                               ncclGetLastError(comm);
    abort_all();
    throw std::runtime_error(reason);
  }
}

void NcclWatch::abort_all() {
  for (ncclComm_t comm : comms_) ncclCommAbort(comm);
  comms_.clear();
}

BF16* RegisteredMemory::at_least(std::size_t values, cudaStream_t stream) {
  const std::size_t bytes = values * sizeof(BF16);
  if (bytes > bytes_) {
    refuse_in_capture(stream, "a collective's memory grows");
    if (data_ != nullptr) HELIX_CUDA(cudaDeviceSynchronize());  // an exchange may still use it
    release();
    HELIX_NCCL(ncclMemAlloc(&data_, bytes));
    const ExchangedMemory memory{.data = static_cast<std::byte*>(data_), .bytes = bytes, .shareable = true};
    exposed_ = std::make_unique<ExposedMemory>(comm_, group_, memory);
    bytes_ = bytes;
  }
  return static_cast<BF16*>(data_);
}

void RegisteredMemory::release() {
  exposed_.reset();
  if (data_ != nullptr) ncclMemFree(data_);
  data_ = nullptr;
  bytes_ = 0;
}

NcclLink::NcclLink(MPI_Comm group, const Gpu& gpu, NcclWatch& watch)
    : watch_(watch),
      group_(group),
      exchange_blocks_(gpu.left_to_exchange()),
      comm_(introduce(group)),
      scratch_(comm_, group) {
  if (comm_ != nullptr) watch_.add(comm_);
  int lowest = 0, highest = 0;
  HELIX_CUDA(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  HELIX_CUDA(cudaStreamCreateWithPriority(&side_, cudaStreamNonBlocking, highest));
}

NcclLink::~NcclLink() {
  // A rank that ends by an exception does so alone: the others would not meet it here.
  if (std::uncaught_exceptions() > 0) watch_.abort_all();
  if (comm_ != nullptr && !watch_.remove(comm_)) {
    scratch_.leave();
    return;
  }
  if (beside_compute_ != nullptr) watch_.remove(beside_compute_);
  cudaDeviceSynchronize();
  for (const Slot& slot : slots_) {
    cudaEventDestroy(slot.ready);
    cudaEventDestroy(slot.arrived);
  }
  cudaStreamDestroy(side_);
  MPI_Comm_free(&group_);
  if (comm_ == nullptr) return;
  scratch_.release();
  if (beside_compute_ != nullptr) ncclCommDestroy(beside_compute_);
  ncclCommDestroy(comm_);
}

ncclComm_t NcclLink::beside_compute(cudaStream_t stream) {
  if (comm_ == nullptr || beside_compute_ != nullptr) return beside_compute_;
  refuse_in_capture(stream, "a communicator is made");
  int rank = 0;
  HELIX_NCCL(ncclCommUserRank(comm_, &rank));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.maxCTAs = exchange_blocks_;
  HELIX_NCCL(ncclCommSplit(comm_, 0, rank, &beside_compute_, &config));
  watch_.add(beside_compute_);
  return beside_compute_;
}

const NcclLink::Slot& NcclLink::slot(int slot) {
  while (slots_.size() <= static_cast<std::size_t>(slot)) {
    Slot& added = slots_.emplace_back();
    HELIX_CUDA(cudaEventCreateWithFlags(&added.ready, cudaEventDisableTiming));
    HELIX_CUDA(cudaEventCreateWithFlags(&added.arrived, cudaEventDisableTiming));
  }
  return slots_[static_cast<std::size_t>(slot)];
}

}  // namespace helix::cuda
