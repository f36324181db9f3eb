// Measuring one configuration: warm up, sample until the stopping rule is content, taking some steps apart by
// phase, summarise.
#pragma once

#include <mpi.h>

#include "kernels/engine/decode_engine.hpp"
#include "sweeps/request/stopping.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// Steps between rewinds that a measurement needs room for: its longest burst, and then some, so that steps
/// are rarely interrupted.
inline constexpr std::int64_t measured_steps_room = 32;

/// Collective over `instance`, the ranks of the engine; every rank returns the same numbers. Times are those
/// of the slowest rank in each step, scaled from the engine's layers to the depth of the model. Steps of a
/// pipeline are timed with all stages busy.
Measurement measure(DecodeEngine& engine, Backend& backend, const StoppingLimits& limits, MPI_Comm instance);

}  // namespace helix
