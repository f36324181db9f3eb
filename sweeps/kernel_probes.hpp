// The cost curves of the kernels that the engine runs, from timing these very kernels on cold data.
#pragma once

#include "sweeps/prober.hpp"

namespace helix {

/// What attention kernels are asked to do in the models of a run.
struct HeadShape {
  AttentionKind kind;
  std::int64_t q_heads, kv_heads, head_dim, v_dim;
};

/// dtype: of the weights.
KernelRate probe_gemm(Backend& backend, const Prober& prober, const ColdMemory& cold, DType dtype);
/// `ffn`: width of an expert.
KernelRate probe_moe(Backend& backend, const Prober& prober, const ColdMemory& cold, DType dtype,
                     std::int64_t hidden, std::int64_t ffn);
/// All shapes of one kind. A dtype other than bf16 overwrites the memory: probe bf16 first.
KernelRate probe_attention(Backend& backend, const Prober& prober, const ColdMemory& cold, DType dtype,
                           const std::vector<HeadShape>& shapes);
KernelRate probe_elementwise(Backend& backend, const Prober& prober);

}  // namespace helix
