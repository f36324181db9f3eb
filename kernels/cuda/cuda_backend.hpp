// The CUDA backend: one GPU for each rank.
#pragma once

#include <memory>

#include "kernels/backend.hpp"
#include "kernels/cuda/local_gpu.hpp"

namespace helix {

std::unique_ptr<Backend> make_cuda_backend(const cuda::LocalGpu& gpu);

}  // namespace helix
