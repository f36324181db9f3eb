#include <mpi.h>

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/comm/agreement.hpp"
#include "kernels/comm/mpi_communicator.hpp"
#include "kernels/comm/rank_groups.hpp"
#include "kernels/ops/backend.hpp"
#include "kernels/ops/synthetic.hpp"

namespace helix {
namespace {

std::unique_ptr<Communicator> world() {
  MPI_Comm copy = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &copy);
  return make_mpi_communicator(copy);
}

float value(int rank, std::int64_t i) {
  return 8.0f *
         synthetic::unit_value(static_cast<std::uint32_t>(rank) * 7919u, static_cast<std::uint32_t>(i));
}

}  // namespace

TEST_CASE("all-reduce rounds the fp32 sum once and gives every rank the same bits") {
  const auto comm = world();
  // Around the switch from gathering everything to two steps, and sizes that the ranks do not divide.
  for (std::int64_t count : {1, 2, 3, 255, 257, 32767, 32768, 32769, 100003}) {
    std::vector<BF16> data(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
      data[static_cast<std::size_t>(i)] = to_bf16(value(comm->rank(), i));
    comm->all_reduce_sum(data.data(), count);
    bool exact = true;
    for (std::int64_t i = 0; i < count; ++i) {
      float sum = 0;
      for (int r = 0; r < comm->size(); ++r) sum += to_float(to_bf16(value(r, i)));
      exact &= data[static_cast<std::size_t>(i)].bits == to_bf16(sum).bits;
    }
    CAPTURE(count);
    CHECK(exact);
  }
}

TEST_CASE("all-to-all delivers chunks in rank order, NaN and infinity with their bits") {
  const auto comm = world();
  const auto ranks = static_cast<std::size_t>(comm->size());
  constexpr std::size_t words = 20;
  const auto word = [](int from, int to, std::size_t i) {
    if (i == 0) return std::bit_cast<std::uint32_t>(-std::numeric_limits<float>::infinity());
    if (i == 1) return 0x7fc12345u;  // a NaN with a payload
    return static_cast<std::uint32_t>(from * 1000000 + to * 1000) + static_cast<std::uint32_t>(i);
  };
  std::vector<std::uint32_t> send(ranks * words), recv(ranks * words, 0);
  for (std::size_t p = 0; p < ranks; ++p) {
    for (std::size_t i = 0; i < words; ++i) send[p * words + i] = word(comm->rank(), static_cast<int>(p), i);
  }
  comm->all_to_all(reinterpret_cast<const std::byte*>(send.data()), reinterpret_cast<std::byte*>(recv.data()),
                   words * sizeof(std::uint32_t));
  bool exact = true;
  for (std::size_t p = 0; p < ranks; ++p) {
    for (std::size_t i = 0; i < words; ++i)
      exact &= recv[p * words + i] == word(static_cast<int>(p), comm->rank(), i);
  }
  CHECK(exact);
}

TEST_CASE("ranks are alike where none of their numbers differs anywhere") {
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const auto of_rank = [&](int which) { return static_cast<std::uint64_t>(rank == which ? 1 : 0); };
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  CHECK(alike(MPI_COMM_WORLD, {0, most, 7}));
  for (int other = 0; size > 1 && other < size; ++other) {
    CHECK_FALSE(alike(MPI_COMM_WORLD, {of_rank(other), 7}));
    CHECK_FALSE(alike(MPI_COMM_WORLD, {7, most - of_rank(other)}));
  }
}

TEST_CASE("packed partials carry the fp32 LSE through the exchange bit for bit") {
  const auto comm = world();
  const auto backend = make_cpu_backend(1);
  const PartialShape shape{.parts = comm->size(), .batch = 3, .heads = 5, .v_dim = 7};
  const std::int64_t all_heads = shape.parts * shape.heads;
  std::vector<BF16> o(static_cast<std::size_t>(shape.batch * all_heads * shape.v_dim), to_bf16(1.0f));
  std::vector<float> lse(static_cast<std::size_t>(shape.batch * all_heads));
  const auto lse_of = [&](int rank, std::int64_t b, std::int64_t head) {
    return std::nextafter(value(rank, b * 1000 + head), 100.0f);
  };
  for (std::int64_t b = 0; b < shape.batch; ++b) {
    for (std::int64_t h = 0; h < all_heads; ++h) {
      lse[static_cast<std::size_t>(b * all_heads + h)] = lse_of(comm->rank(), b, h);
    }
  }
  std::vector<std::byte> send(shape.chunk_bytes() * static_cast<std::size_t>(shape.parts)), recv(send.size());
  backend->pack_partials(shape, o.data(), lse.data(), send.data());
  comm->all_to_all(send.data(), recv.data(), shape.chunk_bytes());
  bool exact = true;
  for (int p = 0; p < comm->size(); ++p) {
    const auto* got = reinterpret_cast<const float*>(
        recv.data() + static_cast<std::size_t>(p) * shape.chunk_bytes() + shape.lse_offset());
    for (std::int64_t b = 0; b < shape.batch; ++b) {
      for (std::int64_t h = 0; h < shape.heads; ++h) {
        const float expected = lse_of(p, b, comm->rank() * shape.heads + h);
        exact &=
            std::bit_cast<std::uint32_t>(got[b * shape.heads + h]) == std::bit_cast<std::uint32_t>(expected);
      }
    }
  }
  CHECK(exact);
}

TEST_CASE("all-to-alls in flight together deliver what each slot sent, in pieces and empty too") {
  const auto comm = world();
  const auto ranks = static_cast<std::size_t>(comm->size());
  // One byte, a piece, several pieces with a short last one, nothing.
  const std::vector<std::size_t> sizes{1, 32 << 10, (100 << 10) + 3, 0};
  const auto byte = [](int from, int to, std::size_t slot, std::size_t i) {
    return static_cast<std::byte>(31 * from + 17 * to + 7 * static_cast<int>(slot) +
                                  static_cast<int>(i % 251));
  };
  std::vector<std::vector<std::byte>> send(sizes.size()), recv(sizes.size());
  for (int round = 0; round < 2; ++round) {  // slots are used again
    for (std::size_t s = 0; s < sizes.size(); ++s) {
      send[s].resize(ranks * sizes[s]);
      recv[s].assign(ranks * sizes[s], std::byte{0xee});
      for (std::size_t p = 0; p < ranks; ++p) {
        for (std::size_t i = 0; i < sizes[s]; ++i)
          send[s][p * sizes[s] + i] = byte(comm->rank() + round, static_cast<int>(p), s, i);
      }
      comm->start_all_to_all(static_cast<int>(s), send[s].data(), recv[s].data(), sizes[s]);
    }
    for (std::size_t s = 0; s < sizes.size(); ++s) {
      comm->finish_all_to_all(static_cast<int>(s));
      bool exact = true;
      for (std::size_t p = 0; p < ranks; ++p) {
        for (std::size_t i = 0; i < sizes[s]; ++i)
          exact &= recv[s][p * sizes[s] + i] == byte(static_cast<int>(p) + round, comm->rank(), s, i);
      }
      CAPTURE(round, sizes[s]);
      CHECK(exact);
    }
  }
}

TEST_CASE("rows are gathered and summed in the parts that even_split cuts, ranks without a row included") {
  const auto comm = world();
  constexpr std::int64_t width = 37;
  for (const std::int64_t rows : {std::int64_t{1}, std::int64_t{2}, std::int64_t{5}, std::int64_t{64}}) {
    const Range own = even_split(rows, comm->size(), comm->rank());
    std::vector<BF16> data(static_cast<std::size_t>(rows * width), to_bf16(-1.0f));
    for (std::int64_t i = own.begin * width; i < own.end * width; ++i)
      data[static_cast<std::size_t>(i)] = to_bf16(value(0, i));
    comm->all_gather_rows(reinterpret_cast<std::byte*>(data.data()), rows, width * sizeof(BF16));
    bool gathered = true, summed = true;
    for (std::int64_t i = 0; i < rows * width; ++i)
      gathered &= data[static_cast<std::size_t>(i)].bits == to_bf16(value(0, i)).bits;

    for (std::int64_t i = 0; i < rows * width; ++i)
      data[static_cast<std::size_t>(i)] = to_bf16(value(comm->rank(), i));
    comm->reduce_scatter_rows(data.data(), rows, width);
    for (std::int64_t i = own.begin * width; i < own.end * width; ++i) {
      float sum = 0;
      for (int r = 0; r < comm->size(); ++r) sum += to_float(to_bf16(value(r, i)));
      summed &= data[static_cast<std::size_t>(i)].bits == to_bf16(sum).bits;
    }
    CAPTURE(rows);
    CHECK(gathered);
    CHECK(summed);
  }
}

TEST_CASE("a ring of ranks exchanges messages of any size without locking up") {
  const auto comm = world();
  const int next = (comm->rank() + 1) % comm->size(),
            previous = (comm->rank() + comm->size() - 1) % comm->size();
  // Rank r sends r + 1 MiB: far too much to be buffered on the way.
  const auto bytes_of = [](int rank) { return static_cast<std::size_t>(rank + 1) << 20; };
  const std::vector<std::byte> send(bytes_of(comm->rank()), static_cast<std::byte>(comm->rank()));
  std::vector<std::byte> recv(bytes_of(previous), std::byte{0xee});
  comm->exchange(send.data(), send.size(), next, recv.data(), recv.size(), previous);
  CHECK(recv == std::vector<std::byte>(recv.size(), static_cast<std::byte>(previous)));

  // One side alone.
  if (comm->size() == 1) return;
  if (comm->rank() == 0) comm->exchange(send.data(), send.size(), 1, nullptr, 0, 0);
  if (comm->rank() == 1) {
    recv.assign(bytes_of(0), std::byte{0xee});
    comm->exchange(nullptr, 0, 0, recv.data(), recv.size(), 0);
    CHECK(recv == std::vector<std::byte>(recv.size(), std::byte{0}));
  }
}

TEST_CASE("a rank's groups: its stage, the peers of its sequence shards, its place in every stage") {
  const auto backend = make_cpu_backend(1);
  int size = 1, rank = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (int pp = 1; pp <= size; ++pp) {
    for (int kvp = 1; kvp <= size / pp; ++kvp) {
      if (size % pp != 0 || size / pp % kvp != 0) continue;
      const int rest = size / pp / kvp;
      for (const Sharding& sharding : {Sharding{.kvp = kvp, .tpa = rest, .tpf = size / pp, .pp = pp},
                                       Sharding{.kvp = kvp, .tpf = size / pp, .pp = pp, .dp = rest}}) {
        const RankCoords at = rank_coords(sharding, rank);
        const Groups groups = make_groups(*backend, MPI_COMM_WORLD, sharding);
        CHECK(groups.stage->size() == size / pp);
        CHECK(groups.stage->rank() == rank % (size / pp));
        CHECK(groups.kvp->size() == kvp);
        CHECK(groups.kvp->rank() == at.kvp);
        CHECK(groups.pipeline->size() == pp);
        CHECK(groups.pipeline->rank() == at.pp);
        const auto members = [&](Communicator& group) {
          std::vector<int> ranks(static_cast<std::size_t>(group.size()));
          group.all_gather(reinterpret_cast<const std::byte*>(&rank),
                           reinterpret_cast<std::byte*>(ranks.data()), sizeof(int));
          return ranks;
        };
        for (const int peer : members(*groups.stage)) CHECK(rank_coords(sharding, peer).pp == at.pp);
        for (const int peer : members(*groups.kvp)) {
          const RankCoords its = rank_coords(sharding, peer);
          CHECK((its.tpa == at.tpa && its.dp == at.dp && its.pp == at.pp));
        }
        for (const int peer : members(*groups.pipeline)) CHECK(peer % (size / pp) == rank % (size / pp));
      }
    }
  }
}

}  // namespace helix
