// The cost curve of a kernel through a few timings of it.
#pragma once

#include <span>

#include "roofline/system/system_spec.hpp"

namespace helix {

/// One timed call: what it moves and computes, and how long it took.
struct Probe {
  double bytes = 0, flops = 0, us = 0;
};

/// The rate whose curve t = fixed + ((bytes / bw)^p + (flops / peak)^p)^(1/p) comes closest to the probes in
/// the worst case. Each parameter rests on probes of its own, so that none makes up for another's error: bw
/// and peak are in the ratio of what the best probe reached of each, and both are scaled so that the curve is
/// too high somewhere by as much as it is too low elsewhere; the norm p, a power of two, says how well memory
/// and arithmetic overlap: 16, fully, unless a smaller one is closer by 3 %.
KernelRate fit(KernelFamily family, DType dtype, double fixed_us, std::span<const Probe> probes);

}  // namespace helix
