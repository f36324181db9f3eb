// The programs that serve models on GPUs: what a decode step has besides its kernels differs between them.
#pragma once

#include <string_view>

namespace helix {

enum class Engine { none, trtllm, vllm, sglang };  // none: the kernels alone
std::string_view name(Engine engine);
/// Throws UsageError naming the valid ones.
Engine parse_engine(std::string_view text);

}  // namespace helix
