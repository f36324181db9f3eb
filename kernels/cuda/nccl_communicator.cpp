#include "kernels/cuda/nccl_communicator.hpp"

#include <string>

#include "kernels/cuda/cuda_check.hpp"
#include "kernels/cuda/small_ops.hpp"
#include "kernels/mpi_check.hpp"
#include "roofline/sharding.hpp"

namespace helix::cuda {
namespace {

void check_nccl(ncclResult_t code, const char* call) {
  if (code == ncclSuccess) return;
  throw std::runtime_error(std::string(call) + ": " + ncclGetErrorString(code) + ", " +
                           ncclGetLastError(nullptr));
}
#define HELIX_NCCL(call) check_nccl((call), #call)

/// Device memory that NCCL knows, so that peers read it directly instead of through a staging buffer.
/// (Buffers of a captured step are registered by NCCL itself.)
class RegisteredMemory {
 public:
  explicit RegisteredMemory(ncclComm_t comm) : comm_(comm) {}
  ~RegisteredMemory() { release(); }
  RegisteredMemory(const RegisteredMemory&) = delete;
  RegisteredMemory& operator=(const RegisteredMemory&) = delete;

  /// Grows to the largest message in the first, unrecorded steps.
  BF16* at_least(std::size_t values) {
    const std::size_t bytes = values * sizeof(BF16);
    if (bytes > bytes_) {
      release();
      HELIX_CUDA(cudaMalloc(&data_, bytes));
      bytes_ = bytes;
      HELIX_NCCL(ncclCommRegister(comm_, data_, bytes, &handle_));
    }
    return static_cast<BF16*>(data_);
  }

 private:
  void release() {
    if (handle_ != nullptr) ncclCommDeregister(comm_, handle_);
    if (data_ != nullptr) cudaFree(data_);
    handle_ = data_ = nullptr;
    bytes_ = 0;
  }

  ncclComm_t comm_;
  void* data_ = nullptr;
  void* handle_ = nullptr;
  std::size_t bytes_ = 0;
};

/// Null for a rank on its own.
ncclComm_t introduce(MPI_Comm comm, int rank, int size) {
  if (size == 1) return nullptr;
  ncclUniqueId id{};
  if (rank == 0) HELIX_NCCL(ncclGetUniqueId(&id));
  HELIX_MPI(MPI_Bcast(&id, sizeof(id), MPI_BYTE, 0, comm));
  ncclComm_t nccl = nullptr;
  HELIX_NCCL(ncclCommInitRank(&nccl, size, id, rank));
  return nccl;
}

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(MPI_Comm comm, cudaStream_t stream, NcclWatch& watch)
      : mpi_(comm),
        rank_(rank_in(comm)),
        size_(size_of(comm)),
        nccl_(introduce(comm, rank_, size_)),
        stream_(stream),
        watch_(watch),
        scratch_(std::make_unique<RegisteredMemory>(nccl_)) {
    if (nccl_ != nullptr) watch_.add(nccl_);
  }
  ~NcclCommunicator() override {
    if (watch_.remove(nccl_)) {
      cudaStreamSynchronize(stream_);
      scratch_.reset();
      ncclCommDestroy(nccl_);
    } else {
      (void)scratch_.release();  // empty, or of an aborted communicator: the program is about to end
    }
    MPI_Comm_free(&mpi_);
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_to_all(const std::byte* send, std::byte* recv, std::size_t bytes_per_peer) override {
    exchange_chunks(send, recv, bytes_per_peer, stream_);
  }

  void all_gather(const std::byte* send, std::byte* recv, std::size_t bytes) override {
    if (size_ == 1) return copy(recv, send, bytes, stream_);
    HELIX_NCCL(ncclAllGather(send, recv, bytes, ncclInt8, nccl_, stream_));
  }

  // ncclAllReduce may add in another order on each rank (tree, ring, in the switch), and rounds to bf16 at
  // every hop. Small messages: gather all and add (one latency). Large ones: every rank adds its part and the
  // parts are gathered (twice the latency, 2 (n - 1) / n of the bytes instead of n - 1).
  void all_reduce_sum(BF16* data, std::int64_t count) override {
    if (size_ == 1) return;
    const auto n = static_cast<std::size_t>(count);
    const auto ranks = static_cast<std::size_t>(size_);
    if (size_ == 2 || n * ranks * sizeof(BF16) <= one_shot_bytes) {
      BF16* all = scratch_->at_least(ranks * n);
      HELIX_NCCL(ncclAllGather(data, all, n, ncclBfloat16, nccl_, stream_));
      sum_ranks(stream_, size_, count, count, all, data);
      return;
    }
    // The last parts may be short or empty; what lies behind the data is sent but never used.
    constexpr std::size_t vector = 8;  // parts of whole 16 bytes
    const std::size_t part = ((n + ranks - 1) / ranks + vector - 1) / vector * vector;
    BF16* send = scratch_->at_least((2 * ranks + 1) * part);
    BF16* recv = send + ranks * part;
    BF16* sum = recv + ranks * part;
    copy(send, data, n * sizeof(BF16), stream_);
    exchange_chunks(send, recv, part * sizeof(BF16), stream_);
    sum_ranks(stream_, size_, static_cast<std::int64_t>(part), static_cast<std::int64_t>(part), recv, sum);
    HELIX_NCCL(ncclAllGather(sum, send, part, ncclBfloat16, nccl_, stream_));
    copy(data, send, n * sizeof(BF16), stream_);
  }

  // The exchange waits for what has been issued so far and runs beside what comes next.
  void start_all_to_all(int slot, const std::byte* send, std::byte* recv,
                        std::size_t bytes_per_peer) override {
    const Slot& s = slot_of(slot);
    HELIX_CUDA(cudaEventRecord(s.ready.get(), stream_));
    HELIX_CUDA(cudaStreamWaitEvent(side_.get(), s.ready.get()));
    exchange_chunks(send, recv, bytes_per_peer, side_.get());
    HELIX_CUDA(cudaEventRecord(s.arrived.get(), side_.get()));
  }

  void finish_all_to_all(int slot) override {
    HELIX_CUDA(cudaStreamWaitEvent(stream_, slot_of(slot).arrived.get()));
  }

  void all_gather_rows(std::byte* data, std::int64_t rows, std::size_t row_bytes) override {
    const Range mine = even_split(rows, size_, rank_);
    HELIX_NCCL(ncclGroupStart());
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      send_rows(data, mine, row_bytes, peer);
      receive_rows(data, even_split(rows, size_, peer), row_bytes, peer);
    }
    HELIX_NCCL(ncclGroupEnd());
  }

  void reduce_scatter_rows(BF16* data, std::int64_t rows, std::int64_t width) override {
    if (size_ == 1) return;
    const auto row_bytes = static_cast<std::size_t>(width) * sizeof(BF16);
    const Range mine = even_split(rows, size_, rank_);
    const std::int64_t own = mine.size() * width;
    BF16* all = scratch_->at_least(static_cast<std::size_t>(size_ * own));
    BF16* own_part = data + mine.begin * width;
    HELIX_NCCL(ncclGroupStart());
    for (int peer = 0; peer < size_; ++peer) {
      if (peer == rank_) continue;
      send_rows(reinterpret_cast<const std::byte*>(data), even_split(rows, size_, peer), row_bytes, peer);
      receive_rows(reinterpret_cast<std::byte*>(all + peer * own), {0, mine.size()}, row_bytes, peer);
    }
    HELIX_NCCL(ncclGroupEnd());
    if (own == 0) return;
    copy(all + rank_ * own, own_part, static_cast<std::size_t>(own) * sizeof(BF16), stream_);
    sum_ranks(stream_, size_, own, own, all, own_part);
  }

  void exchange(const std::byte* send, std::size_t send_bytes, int to, std::byte* recv,
                std::size_t recv_bytes, int from) override {
    HELIX_NCCL(ncclGroupStart());
    if (send_bytes > 0) HELIX_NCCL(ncclSend(send, send_bytes, ncclInt8, to, nccl_, stream_));
    if (recv_bytes > 0) HELIX_NCCL(ncclRecv(recv, recv_bytes, ncclInt8, from, nccl_, stream_));
    HELIX_NCCL(ncclGroupEnd());
  }

 private:
  class Event {
   public:
    Event() { HELIX_CUDA(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming)); }
    ~Event() { cudaEventDestroy(event_); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    cudaEvent_t get() const { return event_; }

   private:
    cudaEvent_t event_ = nullptr;
  };
  /// The stream of exchanges in flight, before the compute stream in the device's queue.
  class SideStream {
   public:
    SideStream() {
      int lowest = 0, highest = 0;
      HELIX_CUDA(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
      HELIX_CUDA(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking, highest));
    }
    ~SideStream() { cudaStreamDestroy(stream_); }
    SideStream(const SideStream&) = delete;
    SideStream& operator=(const SideStream&) = delete;
    cudaStream_t get() const { return stream_; }

   private:
    cudaStream_t stream_ = nullptr;
  };
  struct Slot {
    Event ready, arrived;
  };

  static void copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
    HELIX_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
  }

  const Slot& slot_of(int slot) {
    while (slots_.size() <= static_cast<std::size_t>(slot)) slots_.push_back(std::make_unique<Slot>());
    return *slots_[static_cast<std::size_t>(slot)];
  }

  void send_rows(const std::byte* data, Range rows, std::size_t row_bytes, int peer) {
    if (rows.size() == 0) return;
    HELIX_NCCL(ncclSend(data + static_cast<std::size_t>(rows.begin) * row_bytes,
                        static_cast<std::size_t>(rows.size()) * row_bytes, ncclInt8, peer, nccl_, stream_));
  }
  void receive_rows(std::byte* data, Range rows, std::size_t row_bytes, int peer) {
    if (rows.size() == 0) return;
    HELIX_NCCL(ncclRecv(data + static_cast<std::size_t>(rows.begin) * row_bytes,
                        static_cast<std::size_t>(rows.size()) * row_bytes, ncclInt8, peer, nccl_, stream_));
  }

  // Up to here the gathered bytes take less time over NVLink than a second round of latency.
  static constexpr std::size_t one_shot_bytes = std::size_t{2} << 20;

  static int rank_in(MPI_Comm comm) {
    int rank = 0;
    HELIX_MPI(MPI_Comm_rank(comm, &rank));
    return rank;
  }
  static int size_of(MPI_Comm comm) {
    int size = 1;
    HELIX_MPI(MPI_Comm_size(comm, &size));
    return size;
  }

  void exchange_chunks(const void* send, void* recv, std::size_t bytes_per_peer, cudaStream_t stream) {
    if (size_ == 1) return copy(recv, send, bytes_per_peer, stream);
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
    HELIX_NCCL(ncclAlltoAll(send, recv, bytes_per_peer, ncclInt8, nccl_, stream));
#else
    HELIX_NCCL(ncclGroupStart());
    for (int peer = 0; peer < size_; ++peer) {
      const std::size_t chunk = static_cast<std::size_t>(peer) * bytes_per_peer;
      HELIX_NCCL(ncclSend(static_cast<const std::byte*>(send) + chunk, bytes_per_peer, ncclInt8, peer, nccl_,
                          stream));
      HELIX_NCCL(
          ncclRecv(static_cast<std::byte*>(recv) + chunk, bytes_per_peer, ncclInt8, peer, nccl_, stream));
    }
    HELIX_NCCL(ncclGroupEnd());
#endif
  }

  MPI_Comm mpi_;
  int rank_, size_;
  ncclComm_t nccl_;
  cudaStream_t stream_;
  NcclWatch& watch_;
  std::unique_ptr<RegisteredMemory> scratch_;
  SideStream side_;
  std::vector<std::unique_ptr<Slot>> slots_;
};

}  // namespace

void NcclWatch::check() {
  for (ncclComm_t comm : comms_) {
    ncclResult_t state = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &state);
    if (asked == ncclSuccess && (state == ncclSuccess || state == ncclInProgress)) continue;
    const std::string reason = std::string("NCCL: ") +
                               ncclGetErrorString(asked == ncclSuccess ? state : asked) + ", " +
                               ncclGetLastError(comm);
    for (ncclComm_t each : comms_) ncclCommAbort(each);
    comms_.clear();
    throw std::runtime_error(reason);
  }
}

std::unique_ptr<Communicator> make_nccl_communicator(MPI_Comm comm, cudaStream_t stream, NcclWatch& watch) {
  HELIX_MPI(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
  return std::make_unique<NcclCommunicator>(comm, stream, watch);
}

}  // namespace helix::cuda
