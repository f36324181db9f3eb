// MPI calls that fail become exceptions that name the call; communicators here run with MPI_ERRORS_RETURN.
#pragma once

#include <mpi.h>

#include <stdexcept>
#include <string>

namespace helix {

inline void check_mpi(int code, const char* call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  throw std::runtime_error(std::string(call) + ": " + std::string(text, static_cast<std::size_t>(length)));
}

}  // namespace helix

#define HELIX_MPI(call) ::helix::check_mpi((call), #call)
