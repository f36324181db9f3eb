#include "sweeps/machine/collective_probes.hpp"

#include <algorithm>

#include "kernels/comm/communicator.hpp"
#include "kernels/comm/mpi_check.hpp"
#include "kernels/comm/mpi_communicator.hpp"

namespace helix {
namespace {

/// What the ranks of a part call.
struct Talk {
  std::shared_ptr<Communicator> comm;
  std::shared_ptr<Buffer> send, recv;

  void operator()(Collective op, std::size_t payload) const {
    const int width = comm->size();
    const std::size_t chunk = payload / static_cast<std::size_t>(width) / 16 * 16;
    auto* values = reinterpret_cast<BF16*>(send->data());
    const int next = (comm->rank() + 1) % width, previous = (comm->rank() + width - 1) % width;
    switch (op) {
      case Collective::all_reduce:
        return comm->all_reduce_sum(values, static_cast<std::int64_t>(payload / sizeof(BF16)));
      case Collective::all_gather:
        return comm->all_gather(send->data(), recv->data(), chunk);
      case Collective::all_to_all:
        return comm->all_to_all(send->data(), recv->data(), chunk);
      case Collective::reduce_scatter:
        return comm->reduce_scatter_rows(values, width, static_cast<std::int64_t>(chunk / sizeof(BF16)));
      case Collective::send:  // as the stages of a pipeline do: all at once, in a ring
        return comm->exchange(send->data(), payload, next, recv->data(), payload, previous);
    }
  }
};

struct Timed {
  Collective op;
  int group;
  const Figure &small, &large;
};

}  // namespace

Pending<std::vector<CollectiveRate>> probe_collectives(Backend& backend, Prober& prober, MPI_Comm group) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(group, &rank));
  HELIX_MPI(MPI_Comm_size(group, &size));
  // Payloads that are nearly nothing but alpha, and nearly nothing but bytes.
  constexpr std::size_t small = 1024, large = std::size_t{256} << 10;
  const std::shared_ptr<Buffer> send = backend.allocate(large), recv = backend.allocate(large);
  backend.set_bytes(send->data(), 0, large);
  backend.set_bytes(recv->data(), 0, large);

  std::vector<Timed> timed;
  for (int width = 2; width <= size; ++width) {
    if (size % width != 0) continue;
    MPI_Comm part = MPI_COMM_NULL;
    HELIX_MPI(MPI_Comm_split(group, rank / width, rank, &part));
    const Talk talk{.comm = backend.connect({part}), .send = send, .recv = recv};
    for (Collective op : {Collective::all_reduce, Collective::all_gather, Collective::all_to_all,
                          Collective::reduce_scatter, Collective::send}) {
      const auto time = [&](std::size_t payload) -> const Figure& {
        return prober.time([=](std::int64_t) { talk(op, payload); });
      };
      timed.push_back({.op = op, .group = width, .small = time(small), .large = time(large)});
    }
  }
  return [timed] {
    std::vector<CollectiveRate> rates;
    for (const Timed& t : timed) {
      const double beyond_alpha = std::max(t.large.us - t.small.us, 0.01 * t.large.us);
      rates.push_back({.op = t.op,
                       .group = t.group,
                       .alpha_us = t.small.us,
                       .bytes_per_s = static_cast<double>(large - small) / beyond_alpha * 1e6,
                       .spread = std::max(t.small.spread, t.large.spread)});
    }
    return rates;
  };
}

}  // namespace helix
