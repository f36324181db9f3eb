// MPI calls that fail become exceptions that name the call; communicators here run with MPI_ERRORS_RETURN.
#pragma once

#include <mpi.h>

namespace helix {

[[noreturn]] void throw_mpi_error(int code, const char* call);

inline void check_mpi(int code, const char* call) {
  if (code != MPI_SUCCESS) throw_mpi_error(code, call);
}

}  // namespace helix

#define HELIX_MPI(call) ::helix::check_mpi((call), #call)
