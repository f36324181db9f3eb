// The programs that serve models on GPUs: what a decode step has besides its kernels differs between them.
#pragma once

#include <cstdint>
#include <string_view>

namespace helix {

enum class Engine { none, trtllm, vllm, sglang };  // none: the kernels alone
std::string_view name(Engine engine);
/// Throws UsageError naming the valid ones.
Engine parse_engine(std::string_view text);

/// Rows of the captured graph that runs a step of so many: 1, 2, 4, then steps of 8 up to 256 and of 16 beyond
/// (vLLM's and SGLang's defaults).
std::int64_t graph_rows(std::int64_t rows);

}  // namespace helix
