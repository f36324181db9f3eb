// Decode attention on a GPU: loads run ahead of the products and the softmax by many tiles, an overlap closer
// than in other kernels.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_cost.hpp"
#include "roofline/cost/gpu_units.hpp"

namespace helix {
namespace {

constexpr double overlap_norm = 4;

bool is_16_bit(DType cache) {
  return cache == DType::bf16;
}

const GpuMla::Tile& mla_tile(const GpuMla& g, const AttentionShape& s) {
  return *std::find_if(g.tiles.begin(), g.tiles.end() - 1,
                       [&](const GpuMla::Tile& t) { return real(s.q_heads) <= t.heads; });
}

double efficiency(const GpuMla::Tile& tile, DType cache) {
  return is_16_bit(cache) ? tile.bf16_efficiency : tile.fp8_efficiency;
}

struct MlaGrid {
  double splits, occupancy;
};

MlaGrid mla_grid(const SystemSpec& system, const AttentionShape& s) {
  const GpuMla& g = system.gpu->mla;
  const GpuMla::Tile& tile = mla_tile(g, s);
  const double tiles = real(s.batch) * tile.blocks * whole(real(s.q_heads), std::max(tile.heads, 1.0));
  const double idle_ways = std::max(1.0, std::floor(system.sms / tiles));
  const double tokens = std::max(1.0, real(s.tokens));
  const double splits = std::min({whole(tokens, g.split_tokens), g.max_splits, idle_ways});
  const double blocks = tiles * splits;
  double occupancy = blocks / (system.sms * whole(blocks, system.sms));
  if (blocks < system.sms) occupancy = std::max(occupancy, g.occupancy_floor);
  return {splits, occupancy};
}

Trust attention_trust(const SystemSpec& system, double error_percent, const AttentionShape& s) {
  const GpuFitted& fitted = system.gpu->fitted;
  const bool mla = s.kind == AttentionKind::mla;
  Trust trust = fitted_within(system, error_percent);
  trust.extrapolated.context = real(s.tokens) > fitted.context_tokens;
  trust.extrapolated.shape = s.query_tokens > 1 || (!mla && beyond(fitted.head_values, s.head_dim)) ||
                             beyond(mla ? fitted.mla_requests : fitted.requests, s.batch);
  return trust;
}

}  // namespace

const GpuGqa& gqa_kernel(const SystemSpec& system, const AttentionShape& s, DType cache) {
  const double group = real(s.q_heads) / real(s.kv_heads);
  for (const GpuGqa& g : system.gpu->gqa) {
    const bool right_cache =
        g.cache == GpuGqa::Cache::any || (g.cache == GpuGqa::Cache::bf16) == is_16_bit(cache);
    if (right_cache && group >= g.least_group && group <= g.largest_group) return g;
  }
  throw UsageError(
      fmt::format("system {} has no attention kernel for {:g} query heads per KV head", system.name, group));
}

KernelTerms gqa_terms(const SystemSpec& system, const GpuGqa& g, const AttentionShape& s, double kv_bytes) {
  constexpr double short_row_bytes = 64, heads_at_once = 8, row_values = 128;
  const bool tensor_cores = g.unit == GpuGqa::Unit::tensor_cores;
  const double tokens = std::max(1.0, real(s.tokens));
  const double kv_heads = real(s.batch * s.kv_heads), q_heads = real(s.batch * s.q_heads);
  const double row_bytes = kv_bytes / (kv_heads * tokens * 2);
  const double share = g.efficiency * (row_bytes <= short_row_bytes ? g.narrow_row_efficiency : 1);

  const double blocks = tensor_cores ? kv_heads : q_heads;
  const double splits =
      std::clamp(tokens / g.split_tokens, 1.0, std::max(1.0, std::floor(system.sms / blocks)));
  const double busy_sms = std::min(system.sms, blocks * splits);
  const double rows = tokens * (tensor_cores ? kv_heads * whole(q_heads / kv_heads, heads_at_once)
                                             : q_heads * real(s.head_dim) / row_values);
  const double rate = g.sm_rows_per_s * busy_sms * (splits > 1 ? g.split_rate : 1);

  const GpuEngine& engine = engine_overhead(system);
  double stream_us = dram_us(system, share, kv_bytes);
  if (engine.attention_efficiency > 0) {
    stream_us = std::max(stream_us, dram_us(system, engine.attention_efficiency, kv_bytes));
  }
  if (engine.quantised_cache_bytes_per_s > 0 && row_bytes < bf16_bytes * real(s.head_dim)) {
    // A block has all query heads of a KV head; the last wave of blocks leaves SMs idle.
    const double ways =
        std::clamp(std::floor(system.sms / kv_heads), 1.0, std::max(1.0, tokens / g.split_tokens));
    const double waves = kv_heads * std::floor(ways) / system.sms;
    const double busy = waves / std::ceil(waves);
    stream_us = std::max(stream_us, kv_bytes / (engine.quantised_cache_bytes_per_s * busy) * us_per_second);
  }
  return {.fixed_us = kernels_us(system, g.kernels),
          .memory_us = g.dram_latency_us + stream_us,
          .compute_us = rows / rate * us_per_second,
          .serial_us = g.split_us * (splits - 1),
          .norm = overlap_norm,
          .trust = attention_trust(system, g.error_percent, s)};
}

double mla_slowdown(const SystemSpec& system, const AttentionShape& s, DType cache) {
  const GpuMla& g = system.gpu->mla;
  return efficiency(g.tiles.front(), cache) / efficiency(mla_tile(g, s), cache) /
         std::pow(mla_grid(system, s).occupancy, g.occupancy_exponent);
}

KernelTerms mla_terms(const SystemSpec& system, const AttentionShape& s, double kv_bytes, DType cache) {
  const GpuMla& g = system.gpu->mla;
  const double heads = real(s.q_heads);
  const auto [splits, occupancy] = mla_grid(system, s);
  const double tile_share = efficiency(mla_tile(g, s), cache),
               best_share = efficiency(g.tiles.front(), cache);
  // Absorbed attention multiplies every cached value with every head: keys for the scores, and again those
  // that are values, too.
  const double flops = 2 * real(s.batch) * std::max(1.0, real(s.tokens)) * heads * real(s.head_dim + s.v_dim);
  const double peak = is_16_bit(cache) ? system.peak_flops.bf16 * g.bf16_compute_efficiency
                                       : system.peak_flops.fp8 * g.fp8_compute_efficiency;
  const double head_bytes = real(s.batch) * heads * (is_16_bit(cache) ? g.head_bytes_bf16 : g.head_bytes_fp8);
  constexpr double least_heads = 16;
  return {.fixed_us = kernels_us(system, g.kernels),
          .memory_us = (g.dram_latency_us + dram_us(system, tile_share, kv_bytes)) /
                       std::pow(occupancy, g.occupancy_exponent),
          .compute_us = flops / peak * us_per_second,
          .serial_us = g.split_us * std::pow(splits - 1, g.split_exponent) *
                           (1 + g.split_head_share * std::max(heads, least_heads) / 64) +
                       dram_us(system, best_share, head_bytes),
          .norm = overlap_norm,
          .trust = attention_trust(system, g.error_percent, s)};
}

}  // namespace helix
