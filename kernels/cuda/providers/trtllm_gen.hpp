#pragma once

#include <memory>
#include <vector>

#include "kernels/cuda/providers/attention_provider.hpp"
#include "kernels/providers/kernel_driver.hpp"
#include "kernels/providers/trtllm_gen_kernels.hpp"

namespace helix::cuda {

/// NVIDIA's decode kernels, those of kernels.csv in `folder`, on a GPU of this compute capability (100: 10.0). They need
/// whole numbers of 32 bits for lengths, counters that are zero, and say the largest score and the sum for which we say the
/// LSE: a small kernel of ours runs before them and another behind them.
std::unique_ptr<AttentionProvider> make_trtllm_gen(std::unique_ptr<KernelDriver> driver,
                                                   std::filesystem::path folder, int compute_capability,
                                                   const Gpu& gpu);

}  // namespace helix::cuda
