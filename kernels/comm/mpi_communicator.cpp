#include "kernels/comm/mpi_communicator.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <thread>
#include <vector>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/ops/simd_clones.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {
namespace {

// A message without the receiver's help: far enough below the size from which MPI asks the receiver first
// (Open MPI's btl_tcp_eager_limit is 64 KiB).
constexpr std::size_t eager_bytes = std::size_t{32} << 10;

// Tags of point-to-point messages.
constexpr int exchange_tag = 0;
constexpr int first_slot_tag = 1;

int mpi_count(std::size_t bytes) {
  if (bytes > INT_MAX) throw std::runtime_error("a collective of more than 2 GiB per peer");
  return static_cast<int>(bytes);
}

// out[i] = sum over ranks of rows[rank * n + i], in rank order and fp32: each value on its own, so the same
// bits whatever the vector width.
HELIX_SIMD_CLONES void add_rows(const BF16* rows, std::size_t ranks, std::size_t n, BF16* out) {
  constexpr std::size_t block = 256;
  std::array<float, block> sum;
  for (std::size_t begin = 0; begin < n; begin += block) {
    const std::size_t width = std::min(block, n - begin);
    sum.fill(0.0f);
    for (std::size_t r = 0; r < ranks; ++r) {
      const BF16* row = rows + r * n + begin;
      for (std::size_t i = 0; i < width; ++i) sum[i] += to_float(row[i]);
    }
    for (std::size_t i = 0; i < width; ++i) out[begin + i] = to_bf16(sum[i]);
  }
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
  // part and the parts are gathered (twice the latency; 2 (n - 1) / n of the bytes instead of n - 1, and one
  // n-th of the additions).
  void all_reduce_sum(BF16* data, std::int64_t count) override {
    if (size_ == 1) return;
    const auto n = static_cast<std::size_t>(count);
    if (n * sizeof(BF16) > one_shot_bytes) {
      reduce_scatter_rows(data, count, 1);
      all_gather_rows(reinterpret_cast<std::byte*>(data), count, sizeof(BF16));
      return;
    }
    const auto ranks = static_cast<std::size_t>(size_);
    BF16* all = scratch(ranks * n);
    all_gather(reinterpret_cast<const std::byte*>(data), reinterpret_cast<std::byte*>(all), n * sizeof(BF16));
    add_rows(all, ranks, n, data);
  }

  // MPI moves a message on only inside calls, and a rank that attends makes none. So the messages go out at
  // once, in pieces that need no answer from the receiver: the network's buffers do the rest. Where a
  // transport does ask, the start of the next slot answers.
  void start_all_to_all(int slot, const std::byte* send, std::byte* recv,
                        std::size_t bytes_per_peer) override {
    const auto index = static_cast<std::size_t>(slot);
    if (slots_.size() <= index) slots_.resize(index + 1);
    for (std::vector<MPI_Request>& earlier : slots_) {
      int done = 0;
      HELIX_MPI(MPI_Testall(static_cast<int>(earlier.size()), earlier.data(), &done, MPI_STATUSES_IGNORE));
    }
    std::vector<MPI_Request>& requests = slots_[index];
    requests.clear();
    const auto each_piece = [&](auto fn) {
      for (std::size_t at = 0; at < bytes_per_peer; at += eager_bytes) {
        fn(at, static_cast<int>(std::min(eager_bytes, bytes_per_peer - at)));
      }
    };
    for (int p = 1; p < size_; ++p) {
      const int from = (rank_ + size_ - p) % size_;
      std::byte* chunk = recv + static_cast<std::size_t>(from) * bytes_per_peer;
      each_piece([&](std::size_t at, int bytes) {
        HELIX_MPI(MPI_Irecv(chunk + at, bytes, MPI_BYTE, from, first_slot_tag + slot, comm_,
                            &requests.emplace_back()));
      });
    }
    for (int p = 1; p < size_; ++p) {
      const int to = (rank_ + p) % size_;
      const std::byte* chunk = send + static_cast<std::size_t>(to) * bytes_per_peer;
      each_piece([&](std::size_t at, int bytes) {
        HELIX_MPI(MPI_Isend(chunk + at, bytes, MPI_BYTE, to, first_slot_tag + slot, comm_,
                            &requests.emplace_back()));
      });
    }
    const std::size_t own = static_cast<std::size_t>(rank_) * bytes_per_peer;
    std::copy_n(send + own, bytes_per_peer, recv + own);
  }

  void finish_all_to_all(int slot) override {
    std::vector<MPI_Request>& requests = slots_[static_cast<std::size_t>(slot)];
    HELIX_MPI(MPI_Waitall(static_cast<int>(requests.size()), requests.data(), MPI_STATUSES_IGNORE));
    requests.clear();
  }

  void all_gather_rows(std::byte* data, std::int64_t rows, std::size_t row_bytes) override {
    if (rows % size_ == 0) {  // the same algorithms as all_gather
      const int count = mpi_count(static_cast<std::size_t>(rows / size_) * row_bytes);
      HELIX_MPI(MPI_Allgather(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, count, MPI_BYTE, comm_));
      return;
    }
    const RowParts parts = cut_rows(rows, row_bytes);
    HELIX_MPI(MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_DATATYPE_NULL, data, parts.counts.data(),
                             parts.offsets.data(), MPI_BYTE, comm_));
  }

  void reduce_scatter_rows(BF16* data, std::int64_t rows, std::int64_t width) override {
    const auto row_bytes = static_cast<std::size_t>(width) * sizeof(BF16);
    const RowParts parts = cut_rows(rows, row_bytes);
    const auto own_bytes = static_cast<std::size_t>(parts.counts[static_cast<std::size_t>(rank_)]);
    const std::size_t own = own_bytes / sizeof(BF16);
    const auto ranks = static_cast<std::size_t>(size_);
    BF16* all = scratch(ranks * own);
    std::vector<int> counts(ranks, mpi_count(own_bytes)), offsets(ranks);
    for (std::size_t r = 0; r < ranks; ++r) offsets[r] = mpi_count(r * own_bytes);
    HELIX_MPI(MPI_Alltoallv(data, parts.counts.data(), parts.offsets.data(), MPI_BYTE, all, counts.data(),
                            offsets.data(), MPI_BYTE, comm_));
    add_rows(all, ranks, own, data + even_split(rows, size_, rank_).begin * width);
  }

  void exchange(const std::byte* send, std::size_t send_bytes, int to, std::byte* recv,
                std::size_t recv_bytes, int from) override {
    std::array<MPI_Request, 2> requests{MPI_REQUEST_NULL, MPI_REQUEST_NULL};
    if (recv_bytes > 0) {
      HELIX_MPI(MPI_Irecv(recv, mpi_count(recv_bytes), MPI_BYTE, from, exchange_tag, comm_, &requests[0]));
    }
    if (send_bytes > 0) {
      HELIX_MPI(MPI_Isend(send, mpi_count(send_bytes), MPI_BYTE, to, exchange_tag, comm_, &requests[1]));
    }
    HELIX_MPI(MPI_Waitall(2, requests.data(), MPI_STATUSES_IGNORE));
  }

 private:
  static constexpr std::size_t one_shot_bytes = std::size_t{64} << 10;

  // Bytes and their offsets of each rank's part of the rows.
  struct RowParts {
    std::vector<int> counts, offsets;
  };
  RowParts cut_rows(std::int64_t rows, std::size_t row_bytes) const {
    RowParts parts;
    for (int r = 0; r < size_; ++r) {
      const Range part = even_split(rows, size_, r);
      parts.counts.push_back(mpi_count(static_cast<std::size_t>(part.size()) * row_bytes));
      parts.offsets.push_back(mpi_count(static_cast<std::size_t>(part.begin) * row_bytes));
    }
    return parts;
  }

  // Grows to the largest message once, in the warm-up.
  BF16* scratch(std::size_t values) {
    if (scratch_.size() < values) scratch_.resize(values);
    return scratch_.data();
  }

  MPI_Comm comm_;
  int rank_ = 0;
  int size_ = 1;
  std::vector<BF16> scratch_;
  std::vector<std::vector<MPI_Request>> slots_;  // in flight, by slot
};

}  // namespace

std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm comm) {
  return std::make_unique<MpiCommunicator>(comm);
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
