#include "kernels/mpi_communicator.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/mpi_check.hpp"

namespace helix {
namespace {

int mpi_count(std::size_t bytes) {
  if (bytes > INT_MAX) throw std::runtime_error("a collective of more than 2 GiB per peer");
  return static_cast<int>(bytes);
}

class MpiCommunicator final : public Communicator {
 public:
  explicit MpiCommunicator(MPI_Comm comm) : comm_(comm) {
    HELIX_MPI(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
    HELIX_MPI(MPI_Comm_rank(comm_, &rank_));
    HELIX_MPI(MPI_Comm_size(comm_, &size_));
  }
  ~MpiCommunicator() override { MPI_Comm_free(&comm_); }
  MpiCommunicator(const MpiCommunicator&) = delete;
  MpiCommunicator& operator=(const MpiCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  void all_to_all(const std::byte* send, std::byte* recv, std::size_t bytes_per_peer) override {
    const int count = mpi_count(bytes_per_peer);
    HELIX_MPI(MPI_Alltoall(send, count, MPI_BYTE, recv, count, MPI_BYTE, comm_));
  }

  void all_gather(const std::byte* send, std::byte* recv, std::size_t bytes) override {
    const int count = mpi_count(bytes);
    HELIX_MPI(MPI_Allgather(send, count, MPI_BYTE, recv, count, MPI_BYTE, comm_));
  }

  // MPI_Allreduce knows no bf16 and may add in another order on each rank, which would let ranks disagree on
  // the routing of a token. Small messages: gather all and add (one latency). Large ones: every rank adds its
  // part and the parts are gathered (twice the latency, 2 (n - 1) / n of the bytes instead of n - 1).
  void all_reduce_sum(BF16* data, std::int64_t count) override {
    if (size_ == 1) return;
    const auto n = static_cast<std::size_t>(count);
    const auto ranks = static_cast<std::size_t>(size_);
    if (size_ == 2 || n * sizeof(BF16) <= one_shot_bytes) {
      BF16* all = scratch(ranks * n);
      all_gather(reinterpret_cast<const std::byte*>(data), reinterpret_cast<std::byte*>(all),
                 n * sizeof(BF16));
      add_rows(all, n, data);
      return;
    }
    const std::size_t part = (n + ranks - 1) / ranks;
    BF16* send = scratch((2 * ranks + 1) * part);
    BF16* recv = send + ranks * part;
    BF16* sum = recv + ranks * part;
    std::copy_n(data, n, send);
    std::fill(send + n, send + ranks * part, BF16{});
    all_to_all(reinterpret_cast<const std::byte*>(send), reinterpret_cast<std::byte*>(recv),
               part * sizeof(BF16));
    add_rows(recv, part, sum);
    all_gather(reinterpret_cast<const std::byte*>(sum), reinterpret_cast<std::byte*>(send),
               part * sizeof(BF16));
    std::copy_n(send, n, data);
  }

 private:
  static constexpr std::size_t one_shot_bytes = std::size_t{64} << 10;

  // Grows to the largest message once, in the warm-up.
  BF16* scratch(std::size_t values) {
    if (scratch_.size() < values) scratch_.resize(values);
    return scratch_.data();
  }

  // out[i] = sum over ranks of rows[rank * n + i], in rank order and fp32.
  void add_rows(const BF16* rows, std::size_t n, BF16* out) const {
    constexpr std::size_t block = 256;
    std::array<float, block> sum;
    for (std::size_t begin = 0; begin < n; begin += block) {
      const std::size_t width = std::min(block, n - begin);
      sum.fill(0.0f);
      for (int r = 0; r < size_; ++r) {
        const BF16* row = rows + static_cast<std::size_t>(r) * n + begin;
        for (std::size_t i = 0; i < width; ++i) sum[i] += to_float(row[i]);
      }
      for (std::size_t i = 0; i < width; ++i) out[begin + i] = to_bf16(sum[i]);
    }
  }

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<BF16> scratch_;
};

MPI_Comm split(MPI_Comm parent, int color, int key) {
  MPI_Comm group = MPI_COMM_NULL;
  HELIX_MPI(MPI_Comm_split(parent, color, key, &group));
  return group;
}

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm comm) {
  return std::make_unique<MpiCommunicator>(comm);
}

Groups make_mpi_groups(MPI_Comm instance, const Sharding& sharding) {
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(instance, &rank));
  const RankCoords at = rank_coords(sharding, rank);
  Groups groups;
  groups.instance = make_mpi_communicator(split(instance, 0, rank));
  groups.kvp = make_mpi_communicator(split(instance, at.tpa + sharding.tpa * at.dp, at.kvp));
  return groups;
}

void wait_idle(MPI_Comm comm) {
  MPI_Request request = MPI_REQUEST_NULL;
  HELIX_MPI(MPI_Ibarrier(comm, &request));
  for (int done = 0; !done;) {
    HELIX_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    if (!done) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

}  // namespace helix
