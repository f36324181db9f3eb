// Which backend a run uses.
#pragma once

#include <memory>
#include <string>

#include "kernels/ops.hpp"

namespace helix {

/// `choice`: cpu, cuda or auto (CUDA where it was built in and a device is there, else the CPU). Throws
/// UsageError.
std::unique_ptr<Backend> make_backend(const std::string& choice, int threads);

}  // namespace helix
