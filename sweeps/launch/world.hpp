// The MPI job as the measuring code sees it: ranks, nodes, and the share of a node that each rank has.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <string>
#include <vector>

#include "roofline/system/system_spec.hpp"

namespace helix {

struct World {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0;
  int size = 1;
  int node_ranks = 1;  // ranks on this rank's node
  std::string host;
  std::vector<std::string> placement;  // of every rank, on rank 0: "host: CPUs 0-3,8"
  int threads = 1;       // worker threads per rank: the CPUs it may use, shared out where masks overlap
  int host_threads = 1;  // the same of the host's CPUs, also where ranks have a device
  bool oversubscribed = false;       // more worker threads than CPUs somewhere: timings mean little
  std::size_t node_cache_bytes = 0;  // last-level caches of the node together, 0: unknown
  double memory_fraction = 0;        // of the free memory that ranks may take
  std::size_t memory_bytes = 0;      // what this rank may take of its node's free memory
};

class Backend;

/// Collective. Every rank gets the same `threads` and `memory_bytes` (the smallest of all).
World describe_world(MPI_Comm comm, double memory_fraction = default_memory_fraction);
/// Collective: ranks that have a device each compute with its memory, caches and clocks, not with the host's.
void describe_device(World& world, const Backend& backend);

}  // namespace helix
