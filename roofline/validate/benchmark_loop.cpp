#include "roofline/validate/benchmark_loop.hpp"

#include <algorithm>
#include <cmath>

#include "roofline/cost/gpu_cost.hpp"
#include "roofline/cost/gpu_units.hpp"

namespace helix::benchmark_loop {
namespace {

/// 0 (all in the L2) to 1 (all from DRAM).
double miss_share(const WarmCache& warm, double bytes) {
  return 1 / (1 + std::exp((warm.bytes - bytes) / warm.width_bytes));
}

/// Time of a cache of which some lies in the L2; `slowdown` is the kernel's against its best.
double replayed_us(const WarmCache& warm, double bytes, double dram_us, double slowdown) {
  const double miss = miss_share(warm, bytes);
  return (1 - miss) * slowdown * bytes / warm.bytes_per_s * us_per_second + miss * dram_us;
}

}  // namespace

double gemm_us(const SystemSpec& system, const GpuGemm& g, const GemmShape& s, double weight_bytes) {
  // The collector cycles through as many copies of W as exceed the L2, five at most; when they take less
  // than this share of the L2, it still holds some of a copy at its next turn.
  constexpr double most_copies = 5, excess = 1.05, resident_share = 0.7;
  const double l2_bytes = system.gpu->common.l2_bytes;
  const double copies = std::min(most_copies, whole(l2_bytes * excess, weight_bytes));
  const double hits = copies * weight_bytes <= resident_share * l2_bytes ? g.loop.warm_hits : 0;
  KernelTerms t = gemm_terms(system, g, s, weight_bytes * (1 - hits));
  t.fixed_us = g.loop.fixed_us;
  return t.total_us();
}

double gqa_us(const SystemSpec& system, const GpuGqa& g, const AttentionShape& s, double kv_bytes) {
  KernelTerms t = gqa_terms(system, g, s, kv_bytes);
  t.fixed_us = g.loop.fixed_us;
  t.memory_us = replayed_us(g.loop.warm, kv_bytes, t.memory_us, 1);
  return t.total_us();
}

double mla_us(const SystemSpec& system, const AttentionShape& s, double kv_bytes, DType cache) {
  const GpuMla::Loop& loop = system.gpu->mla.loop;
  KernelTerms t = mla_terms(system, s, kv_bytes, cache);
  t.fixed_us = loop.fixed_us + (cache == DType::bf16 ? loop.bf16_us : 0);
  t.memory_us = replayed_us(loop.warm, kv_bytes, t.memory_us, mla_slowdown(system, s, cache));
  return t.total_us();
}

double moe_us(const SystemSpec& system, const GpuMoe& g, const MoeShape& s, double weight_bytes) {
  KernelTerms t = moe_terms(system, g, s, weight_bytes);
  t.fixed_us = g.loop.fixed_us;
  return t.total_us();
}

double sparse_module_us(const SystemSpec& system, const GpuSparseAttention& a, const SparseModule& m) {
  KernelTerms t = sparse_terms(system, a, m.attention, m.kv_bytes);
  t.fixed_us = a.loop.fixed_us + (m.quantised_inputs ? a.loop.quantise_us : 0) +
               dram_us(system, a.loop.weight_efficiency, m.weight_bytes);
  if (!m.indexer) return t.total_us();
  const GpuIndexer& x = indexer_kernel(system, *m.indexer);
  KernelTerms choice = indexer_terms(system, x, *m.indexer, m.key_bytes);
  choice.fixed_us = x.loop.fixed_us;
  return t.total_us() + choice.total_us();
}

double expert_exchange_us(const SystemSpec& system, const GpuExpertExchange& e, const CollectiveShape& s,
                          bool narrows) {
  GpuExpertExchange waiting = e;
  waiting.dispatch.base_us = e.dispatch.loop_base_us;
  waiting.combine.base_us = e.combine.loop_base_us;
  const auto& phase = s.routed.combine ? e.combine : e.dispatch;
  return helix::expert_exchange_us(system, waiting, s) + (narrows ? phase.loop_narrow_us : 0);
}

}  // namespace helix::benchmark_loop
