// Memory that a micro-benchmark's operands rotate through, so that they are never found in a cache, and the
// ceilings measured in the same process.
#pragma once

#include <cstddef>
#include <span>

#include "roofline/dtype.hpp"

namespace helix {

/// 1.5 GiB of written, huge-page memory, shared by all benchmarks of the process.
std::span<std::byte> cold_buffer();

/// Read bandwidth over cold_buffer(), measured anew by every call (0.5 s): clocks and neighbours drift.
double bandwidth_now(int threads);
/// Multiply-add rate, likewise (0.1 s).
double peak_now(DType dtype, int threads);

}  // namespace helix
