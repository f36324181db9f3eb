// Which backend a run uses.
#pragma once

#include <memory>
#include <string>

#include "kernels/ops/backend.hpp"
#include "sweeps/launch/world.hpp"

namespace helix {

/// `choice`: cpu, cuda or auto (CUDA where it was built in and a device is there, else the CPU). Collective.
/// `world` learns what the backend's device offers. Throws UsageError.
std::unique_ptr<Backend> make_backend(const std::string& choice, World& world);

}  // namespace helix
