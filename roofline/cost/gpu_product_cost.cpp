// Dense products and routed experts on a GPU.
#include <algorithm>
#include <bit>
#include <cmath>

#include <fmt/format.h>

#include "roofline/base/arithmetic.hpp"
#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_cost.hpp"
#include "roofline/cost/gpu_units.hpp"

namespace helix {
namespace {

constexpr double tile_m = 128;           // rows of a product's tile
constexpr double tensor_core_rows = 16;  // that the tensor cores work on at a time

double peak_flops(const SystemSpec& system, KernelFormat format) {
  const auto& p = system.peak_flops;
  double peak = 0;
  switch (format) {
    case KernelFormat::bf16:
    case KernelFormat::w4a16_mxfp4:
      peak = p.bf16;
      break;
    case KernelFormat::fp8:
    case KernelFormat::fp8_block:
    case KernelFormat::w4a8_mxfp4_mxfp8:
      peak = p.fp8;
      break;
    case KernelFormat::nvfp4:
      peak = p.fp4;
      break;
  }
  if (peak <= 0) throw UsageError(fmt::format("system {} has no {} arithmetic", system.name, name(format)));
  return peak;
}

}  // namespace

KernelTerms gemm_terms(const SystemSpec& system, const GpuGemm& g, const GemmShape& s, double weight_bytes) {
  const double m = real(s.m), n = real(s.n), k = real(s.k), matrices = real(s.matrices);
  const GpuCommon& common = system.gpu->common;
  const double tiles = matrices * whole(n, g.tile_n) * whole(m, tile_m);
  const double idle_ways = std::max(1.0, std::floor(system.sms / tiles));
  const double splits = g.split_k_min > 0 ? std::clamp(k / g.split_k_min, 1.0, idle_ways) : 1;
  const double bytes = weight_bytes + matrices * m * (g.input_bytes * k + bf16_bytes * n);
  const double flops = 2 * tensor_core_rows * whole(m, tensor_core_rows) * n * k * matrices;

  KernelTerms t{.memory_us = dram_us(system, g.efficiency, bytes),
                .compute_us = flops / (g.compute_efficiency * peak_flops(system, g.format)) * us_per_second,
                .norm = g.norm,
                .trust = fitted_within(system, g.error_percent)};
  t.trust.extrapolated.shape = m > system.gpu->fitted.rows;
  if (s.fused_on_gpu) return t;
  // Products of each head (MLA's W_UK and W_UV) take 16-bit inputs.
  const bool quantises =
      g.format != KernelFormat::bf16 && g.format != KernelFormat::w4a16_mxfp4 && s.matrices == 1;
  t.fixed_us = kernels_us(system, quantises ? 1 + engine_overhead(system).quantise_kernels : 1);
  t.chain_us = g.k_us / 1024 * k / splits * whole(tiles, system.sms);
  t.serial_us = g.split_us * std::log2(splits) * std::log2(2 * tiles) + g.input_us * matrices * m * k * 1e-6 +
                g.dram_latency_us * std::min(1.0, bytes / common.dram_fill_bytes);
  return t;
}

KernelTerms moe_terms(const SystemSpec& system, const GpuMoe& g, const MoeShape& s, double weight_bytes) {
  const double h = real(s.hidden), f = real(s.ffn);
  const double matrices = g.gated ? 3 : 2;
  const double active = s.active_experts, pairs = s.pairs;
  double tile_tokens = tile_m, walk_us = g.k_us;
  if (g.most_tile_tokens > 0) {
    // The host chooses the tile before routing is known: as if all tokens fell on the rank's own experts.
    const auto expected = static_cast<std::uint64_t>(whole(real(s.tokens * s.top_k), real(s.local_experts)));
    constexpr double least_tile = 8;
    tile_tokens = std::clamp(static_cast<double>(std::bit_ceil(expected)), least_tile, g.most_tile_tokens);
    walk_us += g.tile_us * tile_tokens / tile_m;
  }
  if (g.small_step_tokens > 0) tile_tokens = real(s.tokens) <= g.small_step_tokens ? 16 : 64;
  const double rows_per_expert = whole(pairs, tile_tokens * std::max(active, 1e-9));
  const auto waves = [&](double n) {
    const double share = active * rows_per_expert * whole(n, g.tile_n) / system.sms;
    return std::max(1.0, g.wave_us > 0 ? std::ceil(share) : share);
  };
  const double first_waves = waves((matrices - 1) * f), second_waves = waves(h);
  const double multiplied_rows = g.small_step_tokens > 0 ? active * rows_per_expert * tile_tokens : pairs;
  const double flops = 2 * multiplied_rows * matrices * h * f;
  const double permuted = pairs * (4 * h + 2 * matrices * f) + 4 * real(s.tokens) * h;
  Trust trust = fitted_within(system, g.error_percent);
  trust.extrapolated.shape = real(s.tokens) > system.gpu->fitted.rows;
  return {.fixed_us = kernels_us(system, g.kernels),
          .memory_us = dram_us(system, g.efficiency, weight_bytes),
          .chain_us = walk_us / 1024 * (h * first_waves + f * second_waves) +
                      g.wave_us * (first_waves + second_waves),
          .compute_us = flops / (g.compute_efficiency * peak_flops(system, g.format)) * us_per_second,
          .serial_us = g.local_expert_us * real(s.local_experts) + g.active_expert_us * active +
                       permuted / g.permute_bytes_per_s * us_per_second,
          .norm = g.norm,
          .trust = trust};
}

}  // namespace helix
