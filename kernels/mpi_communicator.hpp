// The Communicator over MPI, for memory that the host can address, and the groups of ranks for any backend.
#pragma once

#include <mpi.h>

#include <memory>

#include "kernels/communicator.hpp"
#include "kernels/ops.hpp"
#include "roofline/sharding.hpp"

namespace helix {

/// Owns a duplicate-free handle of its own; `comm` is freed with the object.
std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm comm);

/// Ranks that are about to be connected; whoever connects them frees the handle.
struct MpiGroup {
  MPI_Comm comm;
};

/// The groups of the calling rank, connected by the backend; collective over `instance`, whose size must be
/// sharding.ranks().
Groups make_groups(Backend& backend, MPI_Comm instance, const Sharding& sharding);

/// Waits for every rank of `comm` without burning the core: for ranks that have no part in what the others
/// measure.
void wait_idle(MPI_Comm comm);

}  // namespace helix
