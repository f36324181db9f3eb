#pragma once

#include <mpi.h>

#include <string>

#include "kernels/mpi_check.hpp"

namespace helix {

/// The text of rank `root` on every rank; collective over `comm`.
inline std::string broadcast_text(std::string text, int root, MPI_Comm comm) {
  int length = static_cast<int>(text.size());
  HELIX_MPI(MPI_Bcast(&length, 1, MPI_INT, root, comm));
  text.resize(static_cast<std::size_t>(length));
  HELIX_MPI(MPI_Bcast(text.data(), length, MPI_CHAR, root, comm));
  return text;
}

}  // namespace helix
