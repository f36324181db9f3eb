// Sparse attention on a GPU: an indexer scores every cached key, attention reads the rows that it picked.
#include <algorithm>

#include <fmt/format.h>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_cost.hpp"
#include "roofline/cost/gpu_units.hpp"

namespace helix {

const GpuSparseAttention& sparse_kernel(const SystemSpec& system, const AttentionShape& s, DType cache) {
  for (const GpuSparseAttention& a : system.gpu->sparse_attention) {
    const bool right_cache =
        a.cache == GpuGqa::Cache::any || (a.cache == GpuGqa::Cache::bf16) == (cache == DType::bf16);
    if (right_cache && a.row_values == real(s.head_dim)) return a;
  }
  throw UsageError(fmt::format("system {} has no sparse attention over a {} cache with rows of {} values",
                               system.name, name(cache), s.head_dim));
}

const GpuIndexer& indexer_kernel(const SystemSpec& system, const IndexerShape& s) {
  for (const GpuIndexer& x : system.gpu->indexers) {
    if (x.tokens_per_key == real(s.tokens_per_key)) return x;
  }
  throw UsageError(
      fmt::format("system {} has no indexer with a key for {} tokens", system.name, s.tokens_per_key));
}

KernelTerms sparse_terms(const SystemSpec& system, const GpuSparseAttention& a, const AttentionShape& s,
                         double kv_bytes) {
  constexpr double tile_heads = 64;
  const double batch = real(s.batch), heads = real(s.q_heads);
  const double flops =
      2 * batch * real(s.picked) * whole(heads, tile_heads) * tile_heads * real(s.head_dim + s.v_dim);
  Trust trust = fitted_within(system, a.error_percent);
  trust.extrapolated.context = real(s.tokens) > system.gpu->fitted.sparse_context_tokens;
  trust.extrapolated.shape = s.query_tokens > 1 || beyond(system.gpu->fitted.sparse_requests, s.batch);
  return {.fixed_us = kernels_us(system, a.kernels),
          .memory_us = dram_us(system, a.gather_efficiency, kv_bytes),
          .compute_us = flops / (a.compute_efficiency * system.peak_flops.bf16) * us_per_second,
          .serial_us = a.head_us * batch * heads,
          .norm = 1,
          .trust = trust};
}

KernelTerms indexer_terms(const SystemSpec& system, const GpuIndexer& x, const IndexerShape& s,
                          double key_bytes) {
  constexpr double sort_ramp_keys = 512;
  const double keys = real(s.keys), surplus = keys - real(s.top_k);
  const double sorts = keys <= x.sort_keys ? std::clamp(surplus / sort_ramp_keys, 0.0, 1.0) : 0;
  return {.fixed_us = kernels_us(system, x.kernels),
          .memory_us = dram_us(system, x.key_efficiency, key_bytes),
          .serial_us = x.key_us * keys / 1024 + x.sort_us * sorts,
          .trust = fitted_within(system, 0)};
}

}  // namespace helix
