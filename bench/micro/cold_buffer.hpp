// Memory that a micro-benchmark's operands rotate through, so that they are never found in a cache, and the
// ceilings measured in the same process.
#pragma once

#include <cstddef>
#include <span>

namespace helix {

/// 1.5 GiB of huge-page memory, shared by all benchmarks of the process. It starts as ordinary bf16 numbers,
/// so that no denormals slow anything down; what another benchmark leaves there serves as well.
std::span<std::byte> cold_buffer();

/// What this machine does at best now.
struct Ceilings {
  double bytes_per_s = 0.0;  // reading cold_buffer()
  double flops_per_s = 0.0;  // multiplying bf16 matrices
};

/// Measured anew (0.6 s) once the last measurement is 3 s old: clocks and neighbours drift.
Ceilings ceilings_now(int threads);

}  // namespace helix
