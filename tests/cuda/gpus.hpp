// The GPUs whose launches the tests run, by what the launchers ask: multiprocessors (few of them: the
// emulation is slow, and what counts is how a request is split) and the shared memory of sm_90 and sm_120.
#pragma once

#include "kernels/cuda/device/gpu.hpp"

namespace helix::cuda {

inline constexpr Gpu kDatacentreGpu{4, 227 * 1024, 228 * 1024};
inline constexpr Gpu kSmallGpu{4, 99 * 1024, 100 * 1024};

/// With as many multiprocessors as real ones have, which cut even short requests.
constexpr Gpu wide_gpu(int multiprocessors) {
  return {multiprocessors, 227 * 1024, 228 * 1024, 4};
}
inline constexpr int kRealMultiprocessors[] = {132, 148, 152};  // H100 and H200, B200, GB200

}  // namespace helix::cuda
