// CUDA runtime calls that fail become exceptions that name the call.
#pragma once

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace helix::cuda {

inline void check_call(cudaError_t code, const char* call) {
  if (code == cudaSuccess) return;
  throw std::runtime_error(std::string(call) + ": " + cudaGetErrorName(code) + ", " +
                           cudaGetErrorString(code));
}

}  // namespace helix::cuda

#define HELIX_CUDA(call) ::helix::cuda::check_call((call), #call)
