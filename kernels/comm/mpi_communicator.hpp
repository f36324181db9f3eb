// The Communicator over MPI, for memory that the host can address.
#pragma once

#include <mpi.h>

#include <memory>

#include "kernels/comm/communicator.hpp"

namespace helix {

/// Owns a duplicate-free handle of its own; `comm` is freed with the object.
std::unique_ptr<Communicator> make_mpi_communicator(MPI_Comm comm);

/// Ranks that are about to be connected; whoever connects them frees the handle.
struct MpiGroup {
  MPI_Comm comm;
};

/// Waits for every rank of `comm` without burning the core: for ranks that have no part in what
/// the others measure.
void wait_idle(MPI_Comm comm);

}  // namespace helix
