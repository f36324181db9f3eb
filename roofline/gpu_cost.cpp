#include "roofline/gpu_cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string_view>

#include "roofline/arithmetic.hpp"
#include "roofline/error.hpp"

namespace helix {
namespace {

constexpr double us = 1e6;  // per second

double ceil_div(double a, double b) {
  return std::ceil(a / b);
}

/// 0 (all in the L2) to 1 (all from DRAM) around the size `middle`.
double miss_share(double bytes, double middle, double width, Setting setting) {
  if (setting == Setting::decode_step) return 1;
  return 1 / (1 + std::exp((middle - bytes) / width));
}

OpTime op_time_of(double total_us, double dram_us, double compute_us, double fixed_us) {
  return {.dram_us = dram_us, .compute_us = compute_us, .fixed_us = fixed_us, .total_us = total_us};
}

double peak_flops(const SystemSpec& system, std::string_view dtype) {
  const auto& p = system.peak_flops;
  const double peak = dtype == "nvfp4"                                        ? p.fp4
                      : dtype.starts_with("fp8") || dtype.starts_with("w4a8") ? p.fp8
                                                                              : p.bf16;
  if (peak <= 0) throw UsageError(fmt::format("system {} has no {} arithmetic", system.name, dtype));
  return peak;
}

double dram_bytes_per_s(const SystemSpec& system, double efficiency) {
  return efficiency * system.dram.datasheet_bytes_per_s;
}

}  // namespace

OpTime gemm_time(const SystemSpec& system, const GpuGemm& g, const GemmShape& s, double weight_bytes,
                 Setting setting) {
  const double m = real(s.m), n = real(s.n), k = real(s.k), matrices = real(s.matrices);
  const GpuCommon& common = system.gpu->common;
  const double tiles = matrices * ceil_div(n, g.tile_n) * ceil_div(m, 128);
  const double idle_ways = std::max(1.0, std::floor(system.sms / tiles));
  const double splits = g.split_k_min > 0 ? std::clamp(k / g.split_k_min, 1.0, idle_ways) : 1;

  double hits = 0;
  if (setting == Setting::benchmark_loop) {
    // The collector cycles through as many copies of W as exceed the L2, five at most.
    const double copies = std::min(5.0, ceil_div(common.l2_bytes * 1.05, weight_bytes));
    if (copies * weight_bytes <= 0.7 * common.l2_bytes) hits = g.warm_hits;
  }
  const double bytes = weight_bytes * (1 - hits) + matrices * m * (g.input_bytes * k + 2 * n);
  const double t_mem = bytes / dram_bytes_per_s(system, g.efficiency) * us;
  const double t_k = g.k_us / 1024 * k / splits * ceil_div(tiles, system.sms);
  // The tensor cores work on 16 rows at a time.
  const double t_c = 2 * 16 * ceil_div(m, 16) * n * k * matrices / peak_flops(system, g.dtype) * us;

  if (s.fused_on_gpu) return op_time_of(std::hypot(t_mem, t_c), t_mem, t_c, 0);
  const double fixed = setting == Setting::benchmark_loop ? g.isolated_us : common.kernel_us;
  const double total = fixed + std::hypot(t_mem, t_k, t_c) +
                       g.split_us * std::log2(splits) * std::log2(2 * tiles) +
                       g.input_us * matrices * m * k * 1e-6 +
                       g.dram_latency_us * std::min(1.0, bytes / common.dram_fill_bytes);
  return op_time_of(total, t_mem, t_c, fixed);
}

OpTime gqa_time(const SystemSpec& system, const AttentionShape& s, double kv_bytes, Setting setting) {
  const GpuGqa& g = system.gpu->gqa;
  const double heads = real(s.batch * s.kv_heads);
  const double tokens = std::max(1.0, real(s.tokens));
  const double group = real(s.q_heads) / real(s.kv_heads);
  const double row_bytes = kv_bytes / (heads * tokens * 2);
  const double efficiency = g.efficiency * (row_bytes <= 64 ? g.narrow_row_efficiency : 1);
  const double miss = miss_share(kv_bytes, g.warm_bytes, g.warm_width_bytes, setting);
  const double t_mem = (1 - miss) * kv_bytes / g.warm_bytes_per_s * us +
                       miss * (g.dram_latency_us + kv_bytes / dram_bytes_per_s(system, efficiency) * us);
  const double t_c = heads * 8 * ceil_div(group, 8) * tokens / (g.sm_score_rows_per_s * system.sms) * us;
  const double splits =
      std::min(std::max(1.0, tokens / g.split_tokens), std::max(1.0, std::floor(system.sms / heads)));
  const double fixed =
      setting == Setting::benchmark_loop ? g.isolated_us : g.kernels * system.gpu->common.kernel_us;
  // Loads run ahead of the products and softmax by many tiles: a closer overlap than in the other kernels.
  const double overlapped = std::pow(std::pow(t_mem, 4) + std::pow(t_c, 4), 0.25);
  return op_time_of(fixed + overlapped + g.split_us * (splits - 1), t_mem, t_c, fixed);
}

OpTime mla_time(const SystemSpec& system, const AttentionShape& s, double kv_bytes, bool fp8,
                Setting setting) {
  const GpuMla& g = system.gpu->mla;
  const double batch = real(s.batch), heads = real(s.q_heads);
  const double tokens = std::max(1.0, real(s.tokens));
  // The 32-head tile is made of two of 16; above, tiles of 64.
  const double tiles = heads <= 16 ? 1 : heads <= 32 ? 2 : ceil_div(heads, 64);
  const auto efficiency_at = [&](const GpuMla::Tile& t) {
    return fp8 ? t.fp8_efficiency : t.bf16_efficiency;
  };
  const auto tile =
      std::find_if(g.tiles.begin(), g.tiles.end() - 1, [&](const auto& t) { return heads <= t.heads; });

  const double idle_ways = std::max(1.0, std::floor(system.sms / (batch * tiles)));
  const double splits = std::min({ceil_div(tokens, g.split_tokens), g.max_splits, idle_ways});
  const double blocks = batch * tiles * splits;
  double occupancy = blocks / (system.sms * ceil_div(blocks, system.sms));
  if (blocks < system.sms) occupancy = std::max(occupancy, g.occupancy_floor);

  const double miss = miss_share(kv_bytes, g.warm_bytes, g.warm_width_bytes, setting);
  const double cold_us = kv_bytes / dram_bytes_per_s(system, efficiency_at(*tile)) * us;
  // The L2 speeds every tile up alike.
  const double warm_us =
      kv_bytes / g.warm_bytes_per_s * us * efficiency_at(g.tiles.front()) / efficiency_at(*tile);
  const double t_mem = ((1 - miss) * warm_us + miss * (g.dram_latency_us + cold_us)) / std::sqrt(occupancy);
  const double head_bytes = batch * heads * (fp8 ? g.head_bytes_fp8 : g.head_bytes_bf16);
  const double fixed = setting == Setting::benchmark_loop ? g.isolated_us + (fp8 ? 0 : g.isolated_bf16_us)
                                                          : g.kernels * system.gpu->common.kernel_us;
  const double total =
      fixed + t_mem +
      g.split_us * std::cbrt(splits - 1) * (1 + g.split_head_share * std::max(heads, 16.0) / 64) +
      head_bytes / dram_bytes_per_s(system, efficiency_at(g.tiles.front())) * us;
  // Absorbed attention multiplies every cached value with every head twice: 4 FLOP per value read and head,
  // short one factor for the values that are keys only.
  const double flops = 2 * batch * tokens * heads * real(s.head_dim + s.v_dim);
  return op_time_of(total, t_mem, flops / peak_flops(system, fp8 ? "fp8" : "bfloat16") * us, fixed);
}

OpTime moe_time(const SystemSpec& system, const GpuMoe& g, const MoeShape& s, double weight_bytes,
                Setting setting) {
  const double h = real(s.hidden), f = real(s.ffn);
  const double matrices = g.gated ? 3 : 2;
  const double active = s.active_experts, pairs = s.pairs;
  const double rows_per_expert = ceil_div(pairs, 128 * std::max(active, 1e-9));
  const auto waves = [&](double n) {
    return std::max(1.0, active * rows_per_expert * ceil_div(n, g.tile_n) / system.sms);
  };
  const double t_mem = weight_bytes / dram_bytes_per_s(system, g.efficiency) * us;
  const double t_k = g.k_us / 1024 * (h * waves((matrices - 1) * f) + f * waves(h));
  const double t_c = 2 * pairs * matrices * h * f / peak_flops(system, g.dtype) * us;
  const double permuted = pairs * (4 * h + 2 * matrices * f) + 4 * real(s.tokens) * h;
  const double fixed =
      setting == Setting::benchmark_loop ? g.isolated_us : g.kernels * system.gpu->common.kernel_us;
  const double total = fixed + std::hypot(t_mem, t_k, t_c) + g.local_expert_us * real(s.local_experts) +
                       g.active_expert_us * active + permuted / g.permute_bytes_per_s * us;
  return op_time_of(total, t_mem, t_c, fixed);
}

double library_collective_us(const SystemSpec& system, const CollectiveShape& s) {
  for (const GpuCollective& c : system.gpu->library_collectives) {
    if (c.op != name(s.op)) continue;
    const double n = s.group, bytes = s.payload_bytes;
    const double steps = s.op == Collective::all_reduce ? 2 * (n - 1) : n - 1;
    const double sent = steps / n * bytes;
    const double latency = c.base_us + c.step_us * steps;
    if (bytes <= c.small_limit_bytes * n) {
      return latency + c.octave_us * std::log2(1 + bytes / 4096) + sent / c.small_bytes_per_s * us;
    }
    const double bytes_per_s = c.ring_efficiency * system.link.bytes_per_s * n / (n + c.ring_ranks_lost);
    const double ring = std::pow(
        std::pow(c.ring_base_us + c.ring_step_us * steps, c.norm) + std::pow(sent / bytes_per_s * us, c.norm),
        1 / c.norm);
    return std::max(latency, ring);
  }
  return std::numeric_limits<double>::infinity();
}

double one_shot_us(const SystemSpec& system, const CollectiveShape& s) {
  const GpuOneShot& g = system.gpu->one_shot;
  const double n = s.group, bytes = s.payload_bytes;
  // All-reduce: the whole buffer to each peer; else a part of it to each.
  const double sent = s.op == Collective::all_reduce ? (n - 1) * bytes
                      : s.op == Collective::send     ? bytes
                                                     : (n - 1) / n * bytes;
  const double one =
      g.base_us + g.octave_us * std::log2(n) + sent / (g.efficiency * system.link.bytes_per_s) * us;
  if (s.op != Collective::all_reduce) return one;
  // Two shots: every rank reduces its part and stores it to all peers.
  CollectiveShape part = s;
  part.op = Collective::all_gather;
  return std::min(one, 2 * one_shot_us(system, part));
}

OpTime gpu_collective_time(const SystemSpec& system, const CollectiveShape& s) {
  CollectiveShape inside = s;
  inside.group = std::min(s.group, static_cast<int>(system.link.domain));
  double total = 0;
  if (inside.group > 1) total = std::min(library_collective_us(system, inside), one_shot_us(system, inside));
  if (s.group > inside.group) {
    const double domains = std::ceil(static_cast<double>(s.group) / system.link.domain);
    const double others = (domains - 1) / domains;
    // Reduced or gathered parts cross once per domain rank; all_to_all pieces cross as they are.
    const double crossing = s.op == Collective::all_reduce ? 2 * others * s.payload_bytes / inside.group
                            : s.op == Collective::all_to_all || s.op == Collective::send
                                ? others * s.payload_bytes
                                : others * s.payload_bytes / inside.group;
    total += system.link.beyond_latency_us * std::ceil(std::log2(domains)) +
             crossing / system.link.beyond_bytes_per_s * us;
  }
  return {.comm_us = total, .total_us = total};
}

namespace {

/// Which measured kernels stand for a storage type.
bool serves(std::string_view kernel_dtype, DType dtype) {
  switch (dtype) {
    case DType::fp32:
    case DType::bf16:
      return kernel_dtype == "bfloat16";
    case DType::fp8:
      return kernel_dtype == "fp8" || kernel_dtype == "fp8_block";
    case DType::nvfp4:
    case DType::fp4:
      return kernel_dtype == "nvfp4";
    case DType::mxfp4:  // 4-bit tensor cores where there are some, else widened like integers
      return kernel_dtype == "nvfp4" || kernel_dtype == "bfloat16" ||
             kernel_dtype.find("mxfp4") != kernel_dtype.npos;
    case DType::int8:
    case DType::int4:  // widened in front of bf16 tensor cores
      return kernel_dtype == "bfloat16";
  }
  return false;
}

/// The fastest of the kernels that can run an op: libraries choose so.
template <class Kernels, class Price>
OpTime fastest(const Kernels& kernels, const Op& op, const SystemSpec& system, Price price) {
  OpTime best{.total_us = std::numeric_limits<double>::infinity()};
  for (const auto& kernel : kernels) {
    if (!serves(kernel.dtype, op.dtype)) continue;
    const OpTime t = price(kernel);
    if (t.total_us < best.total_us) best = t;
  }
  if (std::isinf(best.total_us)) {
    throw UsageError(
        fmt::format("system {} has no {} kernel for '{}'", system.name, name(op.dtype), op.name));
  }
  return best;
}

}  // namespace

OpTime gpu_op_time(const Op& op, const SystemSpec& system) {
  const GpuKernels& gpu = *system.gpu;
  struct Price {
    const Op& op;
    const SystemSpec& system;
    const GpuKernels& gpu;

    OpTime operator()(const GemmShape& s) const {
      return fastest(gpu.gemm, op, system, [&](const GpuGemm& g) {
        return gemm_time(system, g, s, op.bytes.weights, Setting::decode_step);
      });
    }
    OpTime operator()(const AttentionShape& s) const {
      if (s.kind == AttentionKind::gqa) return gqa_time(system, s, op.bytes.kv, Setting::decode_step);
      return mla_time(system, s, op.bytes.kv, op.dtype != DType::bf16, Setting::decode_step);
    }
    OpTime operator()(const MoeShape& s) const {
      return fastest(gpu.moe, op, system, [&](const GpuMoe& g) {
        OpTime t = moe_time(system, g, s, op.bytes.weights, Setting::decode_step);
        if (!g.gated) t.total_us = std::numeric_limits<double>::infinity();
        return t;
      });
    }
    OpTime operator()(const ElementwiseShape& s) const {
      const double dram = op.bytes.total() / dram_bytes_per_s(system, gpu.common.elementwise_efficiency) * us;
      const double fixed = s.fused_on_gpu ? 0 : gpu.common.kernel_us;
      return {.dram_us = dram, .fixed_us = fixed, .total_us = fixed + dram};
    }
    OpTime operator()(const CollectiveShape& s) const { return gpu_collective_time(system, s); }
  };
  return std::visit(Price{op, system, gpu}, op.shape);
}

}  // namespace helix
