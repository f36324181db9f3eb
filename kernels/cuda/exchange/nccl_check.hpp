// NCCL calls that fail become exceptions that name the call.
#pragma once

#include <nccl.h>

#include <stdexcept>
#include <string>

namespace helix::cuda {

inline void check_nccl(ncclResult_t code, const char* call) {
  if (code == ncclSuccess) return;
  throw std::runtime_error(std::string(call) + ": " + ncclGetErrorString(code) + ", " +
                           ncclGetLastError(nullptr));
}

}  // namespace helix::cuda

#define HELIX_NCCL(call) ::helix::cuda::check_nccl((call), #call)
