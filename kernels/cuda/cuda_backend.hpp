// The CUDA backend: one GPU for each rank.
#pragma once

#include <memory>

#include "kernels/cuda/device/local_gpu.hpp"
#include "kernels/ops/backend.hpp"

namespace helix {

std::unique_ptr<Backend> make_cuda_backend(const cuda::LocalGpu& gpu);

}  // namespace helix
