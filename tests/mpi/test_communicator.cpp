#include <mpi.h>

#include <bit>
#include <catch2/catch.hpp>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/mpi_communicator.hpp"
#include "kernels/ops.hpp"
#include "kernels/synthetic.hpp"

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

TEST_CASE("the KVP group of a rank holds the ranks with its heads, in the order of their sequence shards") {
  int size = 1, rank = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (int kvp = 1; kvp <= size; ++kvp) {
    if (size % kvp != 0) continue;
    const Sharding sharding{.kvp = kvp, .tpa = size / kvp, .tpf = size};
    const Groups groups = make_mpi_groups(MPI_COMM_WORLD, sharding);
    CHECK(groups.instance->size() == size);
    CHECK(groups.instance->rank() == rank);
    CHECK(groups.kvp->size() == kvp);
    CHECK(groups.kvp->rank() == rank_coords(sharding, rank).kvp);
  }
}

}  // namespace helix
