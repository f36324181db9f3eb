// Whose kernels attend a cache, and so how its pages lie in memory.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace helix {

enum class KernelMaker : std::uint8_t {
  own,         // those of this program
  trtllm_gen,  // NVIDIA's for Blackwell GPUs, which TensorRT-LLM, vLLM and SGLang run
};
inline constexpr std::array kernel_makers{KernelMaker::own, KernelMaker::trtllm_gen};

std::string_view name(KernelMaker maker);  // "own", "trtllm-gen"
/// Throws UsageError.
KernelMaker parse_kernel_maker(std::string_view text);

}  // namespace helix
