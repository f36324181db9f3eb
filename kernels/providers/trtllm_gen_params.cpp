#include "kernels/providers/trtllm_gen_params.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <numbers>
#include <stdexcept>

#include "roofline/base/arithmetic.hpp"

namespace helix {
namespace {

constexpr int row_bytes = 128;  // that the copy unit fetches of a row at a time, and swizzles

std::uint64_t u64(std::int64_t value) {
  return static_cast<std::uint64_t>(value);
}
std::uint32_t u32(std::int64_t value) {
  return static_cast<std::uint32_t>(value);
}

/// Of a KV head's group as many heads as a tile has, in `heads` such groups, of one token each request.
TensorBoxes queries(const TrtllmGenPlan& plan, const TrtllmGenStep& s, const void* q) {
  const std::int64_t dim = s.cache.head_dim, grouped = plan.heads_per_block;
  const TrtllmGenKernel& k = plan.kernel;
  const std::int64_t box_heads = k.groups_tokens ? grouped : k.tile_q;
  return {.base = q,
          .dims = {u64(dim), u64(grouped), u64(s.q_heads / grouped), u64(s.requests)},
          .strides_bytes = {u64(dim * 2), u64(grouped * dim * 2), u64(s.q_heads * dim * 2)},
          .box = {row_bytes / 2, u32(box_heads), 1, u32(k.groups_tokens ? k.tile_q / grouped : 1)},
          .swizzle_bytes = row_bytes};
}

TensorBoxes outputs(const TrtllmGenPlan& plan, const TrtllmGenStep& s, const void* o) {
  const std::int64_t dim = s.cache.v_dim;
  return {.base = o,
          .dims = {u64(dim), u64(s.requests), u64(s.cache.kv_heads), u64(s.group()), 1},
          .strides_bytes = {u64(s.q_heads * dim * 2), u64(dim * 2), u64(s.cache.kv_heads * dim * 2), 0},
          .box = {row_bytes / 2, u32(plan.kernel.tile_q), 1, 1, 1},
          .swizzle_bytes = row_bytes};
}

/// Narrow rows are fetched several at a time where nothing is swizzled: of a cache that the kernel widens first.
std::int64_t rows_of_a_box_row(const KvShape& cache) {
  if (cache.dtype == DType::bf16) return 1;
  return std::clamp<std::int64_t>(row_bytes / cache.head_dim, 1, cache.tokens_per_page);
}

TensorBoxes keys_or_values(const TrtllmGenStep& s, const TrtllmGenCall& call, const void* base) {
  const KvShape& c = s.cache;
  const bool wide = c.dtype == DType::bf16;
  const std::int64_t dim = c.head_dim, bytes = wide ? 2 : 1, rows = rows_of_a_box_row(c);
  const std::int64_t box_values = std::min<std::int64_t>(row_bytes / bytes, dim);
  return {
      .values = wide ? TensorBoxes::Values::bf16 : TensorBoxes::Values::bytes,
      .base = base,
      .dims = {u64(dim * rows), u64(c.tokens_per_page / rows), u64(c.kv_heads), u64(call.pages)},
      .strides_bytes = {u64(dim * bytes * rows), u64(c.tokens_per_page * dim * bytes), u64(call.page_bytes)},
      .box = {u32(box_values * rows), u32(c.tokens_per_page / rows), 1, 1},
      .swizzle_bytes = wide ? row_bytes : 0};
}

std::int32_t fits(std::int64_t value) {
  if (value > std::numeric_limits<std::int32_t>::max()) throw std::length_error("trtllm-gen counts to 2^31");
  return static_cast<std::int32_t>(value);
}

}  // namespace

QuickDivisor::QuickDivisor(std::int32_t by) : divisor(by) {
  shift = std::bit_width(static_cast<std::uint32_t>(by) - 1) - 1;
  const std::uint64_t power = std::uint64_t{1} << (32 + shift), d = static_cast<std::uint64_t>(by);
  multiplier = static_cast<std::uint32_t>((power + d - 1) / d);
}

std::size_t trtllm_gen_partial_bytes(const KvShape& cache, int multiprocessors) {
  // Blocks that share a request are no more than multiprocessors. Four bytes a value are what no kernel exceeds.
  constexpr std::size_t largest_tile = 128;
  return static_cast<std::size_t>(multiprocessors) * largest_tile *
         (2 * sizeof(float) + static_cast<std::size_t>(cache.v_dim) * sizeof(float));
}

std::size_t trtllm_gen_partial_out_offset(const TrtllmGenKernel& kernel, int multiprocessors) {
  return static_cast<std::size_t>(multiprocessors * kernel.tile_q) * 2 * sizeof(float);
}

TrtllmGenParams trtllm_gen_params(KernelDriver& driver, const TrtllmGenPlan& plan, const TrtllmGenStep& s,
                                  const TrtllmGenCall& call) {
  const KvShape& c = s.cache;
  const bool latent = c.kind == AttentionKind::mla;
  const std::int64_t k_bytes = c.kv_heads * c.tokens_per_page * c.head_dim * (c.dtype == DType::bf16 ? 2 : 1);
  TrtllmGenParams p;
  p.q = driver.describe(queries(plan, s, call.q));
  p.k = driver.describe(keys_or_values(s, call, call.cache));
  // MLA's values are the head of its keys' rows.
  p.v = latent
            ? p.k
            : driver.describe(keys_or_values(s, call, static_cast<const std::byte*>(call.cache) + k_bytes));
  p.o = driver.describe(outputs(plan, s, call.o));
  p.out = call.o;
  p.counters = call.counters;
  p.page_table = call.page_table;
  p.partial_stats = call.partials;
  p.partial_out = call.partials + trtllm_gen_partial_out_offset(plan.kernel, s.multiprocessors);
  p.lengths = call.lengths;
  p.softmax_stats = call.softmax_stats;
  p.window = std::numeric_limits<std::int32_t>::max();
  p.requests = fits(s.requests);
  p.most_q_tokens = 1;
  p.most_tokens = fits(s.most_tokens);
  p.q_blocks = 1;
  p.splits = fits(plan.splits);
  p.table_width = fits(call.table_width);
  p.kv_heads = fits(c.kv_heads);
  p.q_heads = fits(s.q_heads);
  p.group = fits(s.group());
  p.group_divisor = QuickDivisor(p.group);
  p.out_width = s.q_heads * c.head_dim;  // as the launcher has it, of MLA too
  p.pages = fits(call.pages);
  p.q_tokens_per_block = plan.kernel.groups_tokens ? fits(plan.kernel.tile_q / plan.heads_per_block) : 1;
  p.tokens_per_page_log2 = std::countr_zero(static_cast<unsigned>(c.tokens_per_page));
  p.box_rows = fits(rows_of_a_box_row(c));
  p.out_factor = 1;
  p.softmax_scale_log2 = call.scale * std::numbers::log2e_v<float>;
  p.kv_block_scale = 1;
  p.out_block_factor = 1;
  p.q_tokens = fits(s.requests);
  p.same_pages_of_k_and_v = true;
  return p;
}

}  // namespace helix
