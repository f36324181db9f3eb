#include "roofline/cost/op_cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_cost.hpp"

namespace helix {
namespace {

constexpr double us_per_s = 1e6;

KernelFamily family_of(const OpShape& shape) {
  if (std::holds_alternative<GemmShape>(shape)) return KernelFamily::gemm;
  if (std::holds_alternative<MoeShape>(shape)) return KernelFamily::moe;
  if (const auto* a = std::get_if<AttentionShape>(&shape)) {
    return a->kind == AttentionKind::mla ? KernelFamily::mla_attention : KernelFamily::gqa_attention;
  }
  if (std::holds_alternative<IndexerShape>(shape)) return KernelFamily::indexer;
  return KernelFamily::elementwise;
}

/// Flat fp4 is how papers count nvfp4; the kernels are the same.
bool same_kernels(DType a, DType b) {
  const auto plain = [](DType d) { return d == DType::fp4 ? DType::nvfp4 : d; };
  return plain(a) == plain(b);
}

const KernelRate& kernel_rate(const SystemSpec& system, KernelFamily family, DType dtype) {
  for (const KernelRate& rate : system.kernels) {
    if (rate.family == family && same_kernels(rate.dtype, dtype)) return rate;
  }
  throw UsageError(fmt::format("system {} has no {} kernel for {}", system.name, name(family), name(dtype)));
}

OpTime kernel_time(const KernelRate& rate, double bytes, double flops) {
  OpTime t{.dram_us = bytes / rate.bytes_per_s * us_per_s,
           .compute_us = flops / rate.flops_per_s * us_per_s,
           .fixed_us = rate.fixed_us};
  t.total_us = t.fixed_us +
               std::pow(std::pow(t.dram_us, rate.norm) + std::pow(t.compute_us, rate.norm), 1 / rate.norm);
  return t;
}

/// alpha and 1 / bandwidth are linear in log2(group) between the measured sizes (a tree's depth); outside of
/// them the line of the two nearest goes on, but never below the nearest size's figures.
OpTime collective_time(const SystemSpec& system, const CollectiveShape& shape) {
  const CollectiveRate* below = nullptr;  // nearest measured sizes around the group; two on one side outside
  const CollectiveRate* above = nullptr;
  const auto distance = [&](const CollectiveRate& r) {
    return std::abs(std::log2(r.group) - std::log2(shape.group));
  };
  for (const CollectiveRate& r : system.collectives) {
    if (r.op != shape.op) continue;
    const CollectiveRate*& side = r.group <= shape.group ? below : above;
    if (!side || distance(r) < distance(*side)) side = &r;
  }
  const CollectiveRate* nearest = below ? below : above;
  if (!nearest) throw UsageError(fmt::format("system {} has no {} rate", system.name, name(shape.op)));
  if (below && !above) {
    for (const CollectiveRate& r : system.collectives) {
      if (r.op != shape.op || r.group >= below->group) continue;
      if (!above || r.group > above->group) above = &r;
    }
  }
  double alpha = nearest->alpha_us;
  double us_per_byte = us_per_s / nearest->bytes_per_s;
  if (below && above && above->group != below->group) {
    const double at = (std::log2(shape.group) - std::log2(below->group)) /
                      (std::log2(above->group) - std::log2(below->group));
    const auto line = [&](double b, double a) { return std::max(b + at * (a - b), std::min(a, b)); };
    alpha = line(below->alpha_us, above->alpha_us);
    us_per_byte = line(us_per_s / below->bytes_per_s, us_per_s / above->bytes_per_s);
  }
  const double us = alpha + shape.payload_bytes * us_per_byte;
  return {.comm_us = us, .total_us = us};
}

}  // namespace

OpTime op_time(const Op& op, const SystemSpec& system) {
  if (system.gpu) return gpu_op_time(op, system);
  if (const auto* collective = std::get_if<CollectiveShape>(&op.shape))
    return collective_time(system, *collective);
  return kernel_time(kernel_rate(system, family_of(op.shape), op.dtype), op.bytes.total(), op.flops);
}

LeastTime least_time(const Op& op, const SystemSpec& system) {
  const SystemSpec::Peaks& peak = system.peak_flops;
  const bool narrow = op.dtype == DType::nvfp4 || op.dtype == DType::fp4 || op.dtype == DType::mxfp4;
  // Attention widens a 4-bit cache to fp8.
  const bool of_cache =
      std::holds_alternative<AttentionShape>(op.shape) || std::holds_alternative<IndexerShape>(op.shape);
  const bool four_bit = narrow && !of_cache && peak.fp4 > 0;
  const double flops_per_s = four_bit                                             ? peak.fp4
                             : (narrow || op.dtype == DType::fp8) && peak.fp8 > 0 ? peak.fp8
                                                                                  : peak.bf16;
  const bool elementwise = std::holds_alternative<ElementwiseShape>(op.shape);
  const double bytes = elementwise ? op.bytes.total() : op.bytes.weights + op.bytes.kv + op.bytes.state;
  return {.dram_us = bytes / system.roofline_bytes_per_s() * us_per_s,
          .compute_us = op.flops / flops_per_s * us_per_s};
}

double pipelined_us(double compute_us, double comm_us, double pieces) {
  return compute_us + (pieces - 1) * std::max(compute_us, comm_us) + comm_us;
}

}  // namespace helix
