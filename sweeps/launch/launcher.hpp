#pragma once

#include <atomic>

namespace helix {

/// Leaves a process behind that ends the launcher of this one (mpirun, or its daemon on another node) where
/// it outlives it by ten seconds: Open MPI's waits for ever for a daemon that it cannot reach, whatever the
/// job came to. Nothing happens if `finished`, which that process must be able to see change, is true by
/// then. Other launchers, a batch system's among them, are left alone.
void end_launcher_with_me(const std::atomic<bool>& finished);

}  // namespace helix
