// What collectives cost among the ranks of a group, by the size of the part that talks.
#pragma once

#include <mpi.h>

#include <vector>

#include "roofline/system/system_spec.hpp"
#include "sweeps/machine/prober.hpp"

namespace helix {

/// alpha-beta of each collective in groups of every size that divides the ranks evenly, all such groups at
/// once. Collective over `group`.
Pending<std::vector<CollectiveRate>> probe_collectives(Backend& backend, Prober& prober, MPI_Comm group);

}  // namespace helix
