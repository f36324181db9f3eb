// Texts that every rank must have alike.
#pragma once

#include <mpi.h>

#include <string>

#include "kernels/comm/mpi_check.hpp"

namespace helix {

/// The text of rank `root` on every rank; collective over `comm`.
inline std::string broadcast_text(std::string text, int root, MPI_Comm comm) {
  int length = static_cast<int>(text.size());
  HELIX_MPI(MPI_Bcast(&length, 1, MPI_INT, root, comm));
  text.resize(static_cast<std::size_t>(length));
  HELIX_MPI(MPI_Bcast(text.data(), length, MPI_CHAR, root, comm));
  return text;
}

/// One failure for all ranks: that of the lowest rank that has one; empty where none has.
inline std::string agree_on_failure(const std::string& mine, MPI_Comm comm) {
  int rank = 0, size = 1;
  HELIX_MPI(MPI_Comm_rank(comm, &rank));
  HELIX_MPI(MPI_Comm_size(comm, &size));
  int first = mine.empty() ? size : rank;
  HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, comm));
  return first == size ? std::string() : broadcast_text(mine, first, comm);
}

}  // namespace helix
