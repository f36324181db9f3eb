#pragma once

#include <memory>

#include "kernels/cuda/device/stream.hpp"
#include "kernels/providers/kernel_driver.hpp"

namespace helix::cuda {

/// CUDA's driver, whose launches go to `stream`. Its functions are asked of the runtime, so that the program starts where
/// there is no driver.
std::unique_ptr<KernelDriver> make_cuda_driver(Stream stream);

}  // namespace helix::cuda
