#include "kernels/comm/rank_groups.hpp"

#include "kernels/comm/mpi_check.hpp"
#include "kernels/comm/mpi_communicator.hpp"

namespace helix {
namespace {

MPI_Comm split(MPI_Comm parent, int color, int key) {
  MPI_Comm group = MPI_COMM_NULL;
  HELIX_MPI(MPI_Comm_split(parent, color, key, &group));
  return group;
}

}  // namespace

Groups make_groups(Device& device, MPI_Comm instance, const Sharding& sharding) {
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(instance, &rank));
  const RankCoords at = rank_coords(sharding, rank);
  Groups groups;
  groups.stage = device.connect({split(instance, at.pp, rank)});
  const int head_shard = at.tpa + sharding.tpa * (at.dp + sharding.dp * at.pp);
  groups.kvp = device.connect({split(instance, head_shard, at.kvp)});
  groups.pipeline = device.connect({split(instance, rank % sharding.stage_ranks(), at.pp)});
  return groups;
}

}  // namespace helix
