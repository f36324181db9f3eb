// What a benchmark loop measures instead of a step: it replays one op on the same buffers, so that what fits
// stays in the L2, and it times every kernel of the op and the host's launches. Only `predict --validate`
// asks for such times.
#pragma once

#include "roofline/step/decode_ops.hpp"
#include "roofline/system/gpu_kernels.hpp"
#include "roofline/system/system_spec.hpp"

namespace helix::benchmark_loop {

// Microseconds; bytes are those of one execution's weights or KV cache, wherever they lie.
double gemm_us(const SystemSpec& system, const GpuGemm& kernel, const GemmShape& shape, double weight_bytes);
double gqa_us(const SystemSpec& system, const GpuGqa& kernel, const AttentionShape& shape, double kv_bytes);
double mla_us(const SystemSpec& system, const AttentionShape& shape, double kv_bytes, DType cache);
/// One phase of an expert all-to-all; `narrows`: a combine of 4-bit values.
double expert_exchange_us(const SystemSpec& system, const GpuExpertExchange& exchange,
                          const CollectiveShape& shape, bool narrows);
/// A sparse-attention module, its projections of `weight_bytes` included; without `indexer` it is told the rows.
struct SparseModule {
  AttentionShape attention;
  const IndexerShape* indexer = nullptr;
  double weight_bytes = 0, kv_bytes = 0, key_bytes = 0;
  bool quantised_inputs = false;
};
double sparse_module_us(const SystemSpec& system, const GpuSparseAttention& kernel,
                        const SparseModule& module);
double moe_us(const SystemSpec& system, const GpuMoe& kernel, const MoeShape& shape, double weight_bytes);

}  // namespace helix::benchmark_loop
