// The GPU of a rank: which one it is, or why there is none.
#pragma once

#include <cstddef>
#include <string>

#include "kernels/cuda/device/gpu.hpp"

namespace helix::cuda {

struct LocalGpu {
  int index = 0;  // among the visible devices of this process
  std::string name;
  std::string uuid;            // hexadecimal; equal for two ranks that share a GPU
  std::string pci_id;          // as NVML wants it
  int compute_capability = 0;  // 90: 9.0
  std::size_t memory_bytes = 0;
  std::size_t l2_bytes = 0;
  Gpu limits;
};

/// A GPU, or in `problem` what is missing on this host.
struct GpuChoice {
  LocalGpu gpu;
  std::string problem;
  bool ok() const { return problem.empty(); }
};

/// The device of the `local_rank`-th of `local_ranks` ranks on this node: the device of that number where all
/// are visible, or the only one where the launcher shows each rank its own.
GpuChoice choose_gpu(int local_rank, int local_ranks);

}  // namespace helix::cuda
