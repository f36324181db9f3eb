#include "kernels/comm/mpi_check.hpp"

#include <stdexcept>
#include <string>

namespace helix {

void throw_mpi_error(int code, const char* call) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(code, text, &length);
  std::string message = call;
  message += ": ";
  message.append(text, static_cast<std::size_t>(length));
  throw std::runtime_error(message);
}

}  // namespace helix
