// The groups of ranks of a sharding, connected by any device.
#pragma once

#include <mpi.h>

#include "kernels/comm/communicator.hpp"
#include "kernels/ops/device.hpp"
#include "roofline/step/sharding.hpp"

namespace helix {

/// The groups of the calling rank, connected by its device; collective over `instance`, whose size
/// must be sharding.ranks().
Groups make_groups(Device& device, MPI_Comm instance, const Sharding& sharding);

}  // namespace helix
