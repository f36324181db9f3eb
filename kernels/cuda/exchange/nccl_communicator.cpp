#include "kernels/cuda/exchange/nccl_communicator.hpp"

#include <exception>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/cuda/device/cuda_check.hpp"
#include "kernels/cuda/exchange/exposed_memory.hpp"
#include "kernels/cuda/exchange/nccl_check.hpp"
#include "kernels/cuda/small/small_ops.hpp"
#include "roofline/step/sharding.hpp"

namespace helix::cuda {
namespace {

/// To each of a link's communicators that will exchange it.
class LinkExposure final : public Exposure {
 public:
  LinkExposure(NcclLink& link, const ExchangedMemory& memory, bool in_flight, cudaStream_t stream)
      : to_all_(link.comm(), link.group(), memory) {
    if (in_flight) in_flight_.emplace(link.beside_compute(stream), link.group(), memory);
  }

 private:
  ExposedMemory to_all_;
  std::optional<ExposedMemory> in_flight_;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(std::unique_ptr<NcclLink> link, NcclPool::Members members, int rank, cudaStream_t stream,
                   NcclPool& pool, NcclWatch& watch)
      : link_(std::move(link)),
        members_(std::move(members)),
        rank_(rank),
        size_(static_cast<int>(members_.size())),
        nccl_(link_->comm()),
        stream_(stream),
        pool_(pool),
        watch_(watch) {}
  ~NcclCommunicator() override {
    // By an exception a rank leaves alone: nothing on its device may go on waiting for the others.
    if (std::uncaught_exceptions() > 0) watch_.abort_all();
    pool_.give_back(members_, std::move(link_));
  }
  NcclCommunicator(const NcclCommunicator&) = delete;
  NcclCommunicator& operator=(const NcclCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_to_all(const std::byte* send, std::byte* recv, std::size_t bytes_per_peer) override {
    exchange_chunks(send, recv, bytes_per_peer, nccl_, stream_);
  }

  void all_gather(const std::byte* send, std::byte* recv, std::size_t bytes) override {
    if (nccl_ == nullptr) return copy(recv, send, bytes, stream_);
    HELIX_NCCL(ncclAllGather(send, recv, bytes, ncclInt8, nccl_, stream_));
  }

  // ncclAllReduce may add in another order on each rank (tree, ring, in the switch), and rounds to bf16 at
  // every hop. Small messages: gather all and add (one latency). Large ones: every rank adds its part and the
  // parts are gathered (twice the latency, 2 (n - 1) / n of the bytes instead of n - 1).
  void all_reduce_sum(BF16* data, std::int64_t count) override {
    if (nccl_ == nullptr) return;
    const auto n = static_cast<std::size_t>(count);
    const auto ranks = static_cast<std::size_t>(size_);
    if (size_ == 2 || n * ranks * sizeof(BF16) <= one_shot_bytes) {
      BF16* all = link_->scratch().at_least(ranks * n, stream_);
      HELIX_NCCL(ncclAllGather(data, all, n, ncclBfloat16, nccl_, stream_));
      sum_ranks(stream_, size_, count, count, all, data);
      return;
    }
    // The last parts may be short or empty; what lies behind the data is sent but never used.
    constexpr std::size_t vector = 8;  // parts of whole 16 bytes
    const std::size_t part = ((n + ranks - 1) / ranks + vector - 1) / vector * vector;
    BF16* send = link_->scratch().at_least((2 * ranks + 1) * part, stream_);
    BF16* recv = send + ranks * part;
    BF16* sum = recv + ranks * part;
    copy(send, data, n * sizeof(BF16), stream_);
    exchange_chunks(send, recv, part * sizeof(BF16), nccl_, stream_);
    sum_ranks(stream_, size_, static_cast<std::int64_t>(part), static_cast<std::int64_t>(part), recv, sum);
    HELIX_NCCL(ncclAllGather(sum, send, part, ncclBfloat16, nccl_, stream_));
    copy(data, send, n * sizeof(BF16), stream_);
  }

  // The exchange waits for what has been issued so far and runs beside what comes next, on the multiprocessors that this
  // leaves it.
  void start_all_to_all(int slot, const std::byte* send, std::byte* recv,
                        std::size_t bytes_per_peer) override {
    const NcclLink::Slot& s = link_->slot(slot);
    HELIX_CUDA(cudaEventRecord(s.ready, stream_));
    HELIX_CUDA(cudaStreamWaitEvent(link_->side(), s.ready));
    exchange_chunks(send, recv, bytes_per_peer, link_->beside_compute(stream_), link_->side());
    HELIX_CUDA(cudaEventRecord(s.arrived, link_->side()));
  }

  void finish_all_to_all(int slot) override {
    HELIX_CUDA(cudaStreamWaitEvent(stream_, link_->slot(slot).arrived));
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
    if (nccl_ == nullptr) return;
    const auto row_bytes = static_cast<std::size_t>(width) * sizeof(BF16);
    const Range mine = even_split(rows, size_, rank_);
    const std::int64_t own = mine.size() * width;
    // As much on every rank, since growing is collective: rank 0 has most.
    const std::int64_t most = even_split(rows, size_, 0).size() * width;
    BF16* all = link_->scratch().at_least(static_cast<std::size_t>(size_ * most), stream_);
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

  std::unique_ptr<Exposure> expose(const ExchangedMemory& memory, bool in_flight) override {
    if (nccl_ == nullptr) return nullptr;
    return std::make_unique<LinkExposure>(*link_, memory, in_flight, stream_);
  }

  void exchange(const std::byte* send, std::size_t send_bytes, int to, std::byte* recv,
                std::size_t recv_bytes, int from) override {
    HELIX_NCCL(ncclGroupStart());
    if (send_bytes > 0) HELIX_NCCL(ncclSend(send, send_bytes, ncclInt8, to, nccl_, stream_));
    if (recv_bytes > 0) HELIX_NCCL(ncclRecv(recv, recv_bytes, ncclInt8, from, nccl_, stream_));
    HELIX_NCCL(ncclGroupEnd());
  }

 private:
  static void copy(void* to, const void* from, std::size_t bytes, cudaStream_t stream) {
    HELIX_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
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

  void exchange_chunks(const void* send, void* recv, std::size_t bytes_per_peer, ncclComm_t nccl,
                       cudaStream_t stream) {
    if (nccl == nullptr) return copy(recv, send, bytes_per_peer, stream);
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 0)
    HELIX_NCCL(ncclAlltoAll(send, recv, bytes_per_peer, ncclInt8, nccl, stream));
#else
    HELIX_NCCL(ncclGroupStart());
    for (int peer = 0; peer < size_; ++peer) {
      const std::size_t chunk = static_cast<std::size_t>(peer) * bytes_per_peer;
      HELIX_NCCL(ncclSend(static_cast<const std::byte*>(send) + chunk, bytes_per_peer, ncclInt8, peer, nccl,
                          stream));
      HELIX_NCCL(
          ncclRecv(static_cast<std::byte*>(recv) + chunk, bytes_per_peer, ncclInt8, peer, nccl, stream));
    }
    HELIX_NCCL(ncclGroupEnd());
#endif
  }

  std::unique_ptr<NcclLink> link_;
  NcclPool::Members members_;
  int rank_, size_;
  ncclComm_t nccl_;
  cudaStream_t stream_;
  NcclPool& pool_;
  NcclWatch& watch_;
};

/// The ranks of a group as numbers in the world.
NcclPool::Members members_of(MPI_Comm comm) {
  MPI_Group group = MPI_GROUP_NULL, world = MPI_GROUP_NULL;
  int size = 1;
  HELIX_MPI(MPI_Comm_group(comm, &group));
  HELIX_MPI(MPI_Comm_group(MPI_COMM_WORLD, &world));
  HELIX_MPI(MPI_Group_size(group, &size));
  std::vector<int> ranks(static_cast<std::size_t>(size)), members(ranks.size());
  std::iota(ranks.begin(), ranks.end(), 0);
  HELIX_MPI(MPI_Group_translate_ranks(group, size, ranks.data(), world, members.data()));
  HELIX_MPI(MPI_Group_free(&world));
  HELIX_MPI(MPI_Group_free(&group));
  return members;
}

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(MPI_Comm comm, cudaStream_t stream, const Gpu& gpu,
                                                     NcclPool& pool, NcclWatch& watch) {
  HELIX_MPI(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN));
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(comm, &rank));
  NcclPool::Members members = members_of(comm);
  std::unique_ptr<NcclLink> link = pool.take(
      members, [&] { return std::make_unique<NcclLink>(std::exchange(comm, MPI_COMM_NULL), gpu, watch); });
  if (comm != MPI_COMM_NULL) HELIX_MPI(MPI_Comm_free(&comm));
  return std::make_unique<NcclCommunicator>(std::move(link), std::move(members), rank, stream, pool, watch);
}

}  // namespace helix::cuda
