#include "roofline/cost/gpu_cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_units.hpp"

namespace helix {

double KernelTerms::total_us() const {
  const auto square = [](double x) { return x * x; };
  const auto cube = [](double x) { return x * x * x; };
  const auto fourth = [](double x) { return x * x * (x * x); };
  const double overlapped =
      norm == 2   ? std::sqrt(square(memory_us) + square(chain_us) + square(compute_us))
      : norm == 3 ? std::cbrt(cube(memory_us) + cube(chain_us) + cube(compute_us))
      : norm == 4 ? std::sqrt(std::sqrt(fourth(memory_us) + fourth(chain_us) + fourth(compute_us)))
      : norm == 1
          ? memory_us + chain_us + compute_us
          : std::pow(std::pow(memory_us, norm) + std::pow(chain_us, norm) + std::pow(compute_us, norm),
                     1 / norm);
  return fixed_us + overlapped + serial_us;
}

OpTime KernelTerms::time() const {
  return {.dram_us = memory_us,
          .compute_us = compute_us,
          .fixed_us = fixed_us,
          .total_us = total_us(),
          .trust = trust};
}

bool serves(KernelFormat kernel, DType weights) {
  switch (weights) {
    case DType::fp32:
    case DType::bf16:
      return kernel == KernelFormat::bf16;
    case DType::fp8:
      return kernel == KernelFormat::fp8 || kernel == KernelFormat::fp8_block;
    case DType::nvfp4:
    case DType::fp4:
      // Kernels that widen 4-bit weights to the inputs' 16 bits take any scale format.
      return kernel == KernelFormat::nvfp4 || kernel == KernelFormat::w4a16_mxfp4;
    case DType::mxfp4:  // without kernels of its own: on 4-bit tensor cores, or widened like integers
      return kernel == KernelFormat::nvfp4 || kernel == KernelFormat::w4a16_mxfp4 ||
             kernel == KernelFormat::w4a8_mxfp4_mxfp8 || kernel == KernelFormat::bf16;
    case DType::int8:
    case DType::int4:  // widened in front of bf16 tensor cores
      return kernel == KernelFormat::bf16;
  }
  return false;
}

namespace {

bool is_for_mxfp4(KernelFormat kernel) {
  return kernel == KernelFormat::w4a16_mxfp4 || kernel == KernelFormat::w4a8_mxfp4_mxfp8;
}

/// Whether the kernel was measured with other weights than the op's, whose own kernels were not.
bool stands_in(KernelFormat kernel, const Op& op) {
  switch (op.dtype) {
    case DType::bf16:
      return false;
    case DType::fp8:
      return op.block_scaled && kernel == KernelFormat::fp8;
    case DType::nvfp4:
    case DType::fp4:
      return kernel != KernelFormat::nvfp4;
    case DType::mxfp4:
      return !is_for_mxfp4(kernel);
    case DType::fp32:
    case DType::int8:
    case DType::int4:
      return true;
  }
  return true;
}

/// Whether the engine runs such experts with a kernel of Triton's, and whether one was measured for these weights.
bool wants_triton(const SystemSpec& system, const MoeShape& s) {
  const GpuEngine& engine = engine_overhead(system);
  return engine.triton_experts && !(engine.library_under_ep && s.local_experts < s.experts);
}
bool has_triton(const SystemSpec& system, DType weights) {
  return std::ranges::any_of(system.gpu->moe, [&](const GpuMoe& g) {
    return g.kernel == MoeKernel::triton && serves(g.format, weights);
  });
}

/// The fastest of the kernels that can run an op: libraries choose so.
template <class Kernels, class Terms>
OpTime fastest(const Kernels& kernels, const Op& op, const SystemSpec& system, Terms terms_of) {
  const double none = std::numeric_limits<double>::infinity();
  double best_us = none;
  KernelTerms best;
  const auto* experts = std::get_if<MoeShape>(&op.shape);
  const bool wants = experts && wants_triton(system, *experts);
  [[maybe_unused]] const bool triton = wants && has_triton(system, op.dtype);
  // Where there are 4-bit tensor cores, engines have TensorRT-LLM's generated kernels for experts with a scale a block.
  // They were not measured: those for a scale a tensor stand for them.
  const bool generated = experts && system.peak_flops.fp4 > 0;
  const bool own_mxfp4 = op.dtype == DType::mxfp4 && std::ranges::any_of(kernels, [](const auto& kernel) {
                           return is_for_mxfp4(kernel.format);
                         });
  [[maybe_unused]] bool gated = true;
  if constexpr (requires { kernels.front().gated; }) {
    gated = experts->matrices == 3 || std::ranges::none_of(kernels, [&](const auto& kernel) {
              return !kernel.gated && serves(kernel.format, op.dtype);
            });
  }
  for (const auto& kernel : kernels) {
    if (!serves(kernel.format, op.dtype)) continue;
    if (own_mxfp4 && !is_for_mxfp4(kernel.format)) continue;
    if (op.block_scaled && kernel.format == KernelFormat::fp8 && !generated) continue;
    if constexpr (requires { kernel.gated; }) {
      if (kernel.gated != gated || (kernel.kernel == MoeKernel::triton) != (triton && gated)) continue;
    }
    const KernelTerms terms = terms_of(kernel);
    const double us = terms.total_us();
    if (us < best_us) {
      best_us = us;
      best = terms;
      best.trust.extrapolated.shape |= stands_in(kernel.format, op) || (wants && !triton);
    }
  }
  if (best_us == none) {
    throw UsageError(
        fmt::format("system {} has no {} kernel for '{}'", system.name, name(op.dtype), op.name));
  }
  return best.time();
}

}  // namespace

OpTime gpu_op_time(const Op& op, const SystemSpec& system) {
  const GpuKernels& gpu = *system.gpu;
  struct Price {
    const Op& op;
    const SystemSpec& system;
    const GpuKernels& gpu;

    /// Kernels that read and write once, at the rate of elementwise ones.
    OpTime streamed(double kernels) const {
      const double dram = dram_us(system, gpu.common.elementwise_efficiency, op.bytes.total());
      const double fixed = kernels_us(system, kernels);
      return {.dram_us = dram, .fixed_us = fixed, .total_us = fixed + dram};
    }
    OpTime operator()(const GemmShape& s) const {
      return fastest(gpu.gemm, op, system,
                     [&](const GpuGemm& g) { return gemm_terms(system, g, s, op.bytes.weights); });
    }
    OpTime operator()(const AttentionShape& s) const {
      OpTime time = attention(s);
      // No other types of cache were measured.
      time.trust.extrapolated.shape |= op.dtype != DType::bf16 && op.dtype != DType::fp8;
      return time;
    }
    OpTime attention(const AttentionShape& s) const {
      if (s.kind == AttentionKind::mla) {
        return s.picked > 0 ? sparse_terms(system, sparse_kernel(system, s, op.dtype), s, op.bytes.kv).time()
                            : mla_terms(system, s, op.bytes.kv, op.dtype).time();
      }
      AttentionShape read = s;  // whole blocks are picked: as if there were no other tokens
      if (s.picked > 0) read.tokens = s.picked;
      return gqa_terms(system, gqa_kernel(system, read, op.dtype), read, op.bytes.kv).time();
    }
    OpTime operator()(const IndexerShape& s) const {
      return indexer_terms(system, indexer_kernel(system, s), s, op.bytes.kv).time();
    }
    OpTime operator()(const StateShape&) const {
      OpTime time = streamed(2);  // convolution, update
      time.trust.extrapolated.shape = true;
      return time;
    }
    OpTime operator()(const MoeShape& s) const {
      return fastest(gpu.moe, op, system,
                     [&](const GpuMoe& g) { return moe_terms(system, g, s, op.bytes.weights); });
    }
    OpTime operator()(const ElementwiseShape& s) const {
      return s.none_on_gpu ? OpTime{} : streamed(s.fused_on_gpu ? 0 : 1);
    }
    OpTime operator()(const CollectiveShape& s) const { return gpu_collective_time(system, s); }
  };
  return std::visit(Price{op, system, gpu}, op.shape);
}

}  // namespace helix
