// Time of a decode kernel on a GPU, from its tiles, splits and waves over the SMs, DRAM, L2 and NVLink.
#pragma once

#include "roofline/cost/op_cost.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/system/gpu_kernels.hpp"
#include "roofline/system/system_spec.hpp"

namespace helix {

/// What a kernel spends its time on, in microseconds: memory, the latency chain of a tile's loads and
/// products, and arithmetic overlap by a norm (1: not at all, infinite: fully); the rest adds up.
struct KernelTerms {
  double fixed_us = 0;   // launch, prologue, drain
  double memory_us = 0;  // DRAM
  double chain_us = 0;
  double compute_us = 0;
  double serial_us = 0;  // reductions, quantisation, permutation
  double norm = 2;
  Trust trust{};

  double total_us() const;
  OpTime time() const;
};

// The terms of one kernel in a model's decode step: weights and KV come from DRAM, kernels run in a CUDA
// graph, and quantisation is part of the kernel before.
KernelTerms gemm_terms(const SystemSpec& system, const GpuGemm& kernel, const GemmShape& shape,
                       double weight_bytes);
KernelTerms gqa_terms(const SystemSpec& system, const GpuGqa& kernel, const AttentionShape& shape,
                      double kv_bytes);
KernelTerms mla_terms(const SystemSpec& system, const AttentionShape& shape, double kv_bytes, DType cache);
KernelTerms sparse_terms(const SystemSpec& system, const GpuSparseAttention& kernel,
                         const AttentionShape& shape, double kv_bytes);
KernelTerms indexer_terms(const SystemSpec& system, const GpuIndexer& indexer, const IndexerShape& shape,
                          double key_bytes);
KernelTerms moe_terms(const SystemSpec& system, const GpuMoe& kernel, const MoeShape& shape,
                      double weight_bytes);

/// The kernel that serves such a cache and group of query heads. Throws UsageError if there is none.
const GpuGqa& gqa_kernel(const SystemSpec& system, const AttentionShape& shape, DType cache);
/// Likewise for attention to picked rows, and for the choice of them.
const GpuSparseAttention& sparse_kernel(const SystemSpec& system, const AttentionShape& shape, DType cache);
const GpuIndexer& indexer_kernel(const SystemSpec& system, const IndexerShape& shape);
/// How much slower than the smallest tile, on all SMs, MLA's kernel streams this shape's cache.
double mla_slowdown(const SystemSpec& system, const AttentionShape& shape, DType cache);

/// NCCL's way.
double library_collective_us(const SystemSpec& system, const CollectiveShape& shape);
/// One-shot kernels; of an all-reduce the faster of one shot and two.
double one_shot_us(const SystemSpec& system, const CollectiveShape& shape);
/// Dispatch or combine by one backend.
double expert_exchange_us(const SystemSpec& system, const GpuExpertExchange& exchange,
                          const CollectiveShape& shape);
/// The fastest way inside the NVLink domain; across domains each domain does its part, then all at once.
OpTime gpu_collective_time(const SystemSpec& system, const CollectiveShape& shape);

/// An op of a decode step.
OpTime gpu_op_time(const Op& op, const SystemSpec& system);

}  // namespace helix
