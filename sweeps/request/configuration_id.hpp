// What a configuration is called.
#pragma once

#include <string>

#include "sweeps/results/result_row.hpp"

namespace helix {

/// A stable, readable name of a point, made from all that distinguishes it from others:
/// "llama-3.2-1b/helix/kvp2.tpa1.tpf2.ep1/s65536/b4/bf16-bf16/blk32", dp, pp, hop-b and layers where they are
/// not 1 or all.
std::string configuration_id(const Configuration& config);

}  // namespace helix
