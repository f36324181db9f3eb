// Flash-decode attention and its paged KV cache on the CPU. The functions are what the like-named members of
// DecodeOps (kernels/ops/ops.hpp) forward to; `threads` is the number of worker threads, the caller included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kernels/ops/bf16.hpp"
#include "kernels/ops/ops.hpp"

namespace helix::cpu {

/// Throws UsageError where the widths do not fit the page layout (kv_layout.hpp).
std::size_t kv_page_bytes(const KvShape& shape);

void kv_append(const KvView& cache, std::int64_t batch, const std::int64_t* slots, const BF16* k,
               std::int64_t ldk, const BF16* v, std::int64_t ldv, int threads);

void kv_fill_history(const KvView& cache, const HistorySlice& history, int threads);

std::size_t attention_scratch_bytes(const KvShape& shape, std::int64_t most_requests, std::int64_t q_heads,
                                    int threads);

void attention(const KvView& cache, std::int64_t batch, std::int64_t q_heads, float scale, const BF16* q,
               BF16* o, float* lse, std::span<std::byte> scratch, int threads);

/// Why `attention` does not run over this cache; empty if it does.
std::string why_not_attended(const KvShape& shape);
/// The path that `attention` takes for it: "amx-bf16", "avx512", "avx2", "neon" ...
std::string attention_kernel(const KvShape& shape);

}  // namespace helix::cpu
