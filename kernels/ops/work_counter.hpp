// How much this process has done, in no particular unit: whoever watches it from another thread sees whether
// it still does anything. Counted where a single call may take minutes; waiting for others does not count.
#pragma once

#include <atomic>
#include <cstdint>

namespace helix {

inline std::atomic<std::uint64_t> work_done{0};

inline void note_work() {
  work_done.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace helix
