// The cost curves of the kernels that the engine runs, from timing these very kernels on cold data. Each
// function names the calls to time; what it returns makes the curve of their figures.
#pragma once

#include "roofline/system/system_spec.hpp"
#include "sweeps/machine/prober.hpp"

namespace helix {

/// What attention kernels are asked to do in the models of a run.
struct HeadShape {
  AttentionKind kind;
  std::int64_t q_heads, kv_heads, head_dim, v_dim;

  KvShape cache(DType dtype) const {
    return {.kind = kind, .kv_heads = kv_heads, .head_dim = head_dim, .v_dim = v_dim, .dtype = dtype};
  }
};

/// The cache of an indexer's keys.
inline KvShape index_keys(const IndexerSpec& indexer, DType dtype) {
  return {
      .kind = AttentionKind::mla, .head_dim = indexer.head_dim, .v_dim = indexer.head_dim, .dtype = dtype};
}

/// dtype: of the weights.
Pending<KernelRate> probe_gemm(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype);
/// `ffn`: width of an expert.
Pending<KernelRate> probe_moe(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                              std::int64_t hidden, std::int64_t ffn);
/// All shapes of one kind.
Pending<KernelRate> probe_attention(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                                    const std::vector<HeadShape>& shapes);
/// The scores of all keys, and the best of them.
Pending<KernelRate> probe_indexer(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                                  const std::vector<IndexerSpec>& indexers);
Pending<KernelRate> probe_elementwise(Backend& backend, Prober& prober);

}  // namespace helix
