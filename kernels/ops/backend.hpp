// A device, what it can do, and the ops of a decode step on it: the CPU's or CUDA's.
#pragma once

#include <memory>

#include "kernels/ops/device.hpp"
#include "kernels/ops/device_probe.hpp"
#include "kernels/ops/ops.hpp"

namespace helix {

class Backend : public Device, public DeviceProbe, public DecodeOps {};

/// CPU backend with `threads` worker threads (the calling thread is one of them).
std::unique_ptr<Backend> make_cpu_backend(int threads);

}  // namespace helix
