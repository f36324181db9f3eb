// How the CPU kernels use their worker threads.
#pragma once

#include <omp.h>

#include <algorithm>
#include <cstdint>

#include "roofline/step/range.hpp"

namespace helix {

/// Part `part` of `parts` nearly equal pieces of [0, count).
inline Range split(std::int64_t count, int part, int parts) {
  return {count * part / parts, count * (part + 1) / parts};
}

/// Runs work(thread, threads) on `threads` OpenMP threads; with one it is a plain call.
template <class Work>
void in_parallel(int threads, const Work& work) {
  if (threads == 1) {
    work(0, 1);
    return;
  }
#pragma omp parallel num_threads(threads)
  work(omp_get_thread_num(), omp_get_num_threads());
}

}  // namespace helix
