// The one parameter of a trtllm-gen kernel, laid out as its machine code reads it. tests/kernels/providers holds this layout
// to that of FlashInfer 0.6.13's header, as its compiler sees it (scripts/trtllm_gen.py layout).
#pragma once

#include <cstdint>

#include "kernels/providers/kernel_driver.hpp"
#include "kernels/providers/trtllm_gen_kernels.hpp"

namespace helix {

/// A divisor by which the kernel divides with a multiplication and a shift (CCCL's cuda::fast_mod_div of int).
struct QuickDivisor {
  QuickDivisor() = default;
  explicit QuickDivisor(std::int32_t by);

  std::int32_t divisor = 1;
  std::uint32_t multiplier = 0, add = 0;
  std::int32_t shift = 0;
};

/// What is never set here stays zero: other masks, other types, training's statistics.
struct TrtllmGenParams {
  TensorMap q{}, k{}, k_window_pool{}, v{}, o{}, k_scales{}, v_scales{};
  std::int32_t logical_grid[3]{};
  void* out = nullptr;
  void *out_scales = nullptr, *sinks = nullptr, *q_starts = nullptr, *kv_starts = nullptr, *mask = nullptr,
       *mask_offsets = nullptr, *debug_out = nullptr, *sparse_offsets = nullptr;
  std::int32_t* counters = nullptr;  // zero before and after
  const void* out_scale = nullptr;
  const std::int32_t* page_table = nullptr;
  void *partial_out = nullptr, *partial_stats = nullptr;
  void *sage_k = nullptr, *sage_p = nullptr, *sage_q = nullptr, *sage_v = nullptr;
  void *softmax_scale = nullptr, *kv_scale = nullptr, *out_block_scale = nullptr;
  const std::int32_t* lengths = nullptr;
  void* skip_stats = nullptr;
  float* softmax_stats = nullptr;  // [requests, q_heads, 2]: largest score, sum of exp(score - largest)
  void* sparse_lengths = nullptr;
  std::int32_t window = 0, requests = 0, chunk_log2 = 0;
  float inflate_max = 0;
  std::int32_t log_sage_k = 0, log_sage_p = 0, log_sage_q = 0, log_sage_v = 0;
  std::int32_t most_q_tokens = 0, most_tokens = 0, q_blocks = 0, splits = 0, table_width = 0;
  std::int32_t kv_heads = 0, q_heads = 0, group = 0;
  QuickDivisor group_divisor{};
  std::int64_t out_width = 0;
  std::int32_t pages = 0, q_tokens_per_block = 0, tokens_per_page_log2 = 0, box_rows = 0;
  float out_factor = 0, softmax_scale_log2 = 0, kv_block_scale = 0, out_block_factor = 0, skip_threshold = 0;
  std::int32_t sparse_top_k = 0, first_scale = 0, q_tokens = 0, kv_tokens = 0;
  bool block_sparse = false, same_pages_of_k_and_v = false;
};
static_assert(sizeof(TrtllmGenParams) == 1280);

/// A call's arrays, in the GPU's memory: q [requests, q_heads, head_dim] and o [requests, q_heads, v_dim] in bf16; pages
/// [pages][K: kv_heads, tokens, head_dim; V: kv_heads, tokens, v_dim], of MLA K alone; tables of `table_width` pages.
struct TrtllmGenCall {
  const void *q = nullptr, *cache = nullptr;
  void* o = nullptr;
  std::int64_t page_bytes = 0, pages = 0;
  const std::int32_t *page_table = nullptr, *lengths = nullptr;
  std::int64_t table_width = 0;
  std::int32_t* counters = nullptr;
  float* softmax_stats = nullptr;
  std::byte* partials = nullptr;
  float scale = 1;
};

/// Bytes behind `partials` that are enough for any plan of such a cache: sums of each block, and its output.
std::size_t trtllm_gen_partial_bytes(const KvShape& cache, int multiprocessors);
/// Where the outputs of blocks that another kernel adds up begin there, [.., splits, tile_q, v_dim of a block] in bf16. Before
/// them, [.., splits, tile_q], the largest product of a row's query and keys, and the sum of exp over it.
std::size_t trtllm_gen_partial_out_offset(const TrtllmGenKernel& kernel, int multiprocessors);

TrtllmGenParams trtllm_gen_params(KernelDriver& driver, const TrtllmGenPlan& plan, const TrtllmGenStep& step,
                                  const TrtllmGenCall& call);

}  // namespace helix
