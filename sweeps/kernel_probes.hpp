// The cost curves of the kernels that the engine runs, from timing these very kernels on cold data.
#pragma once

#include "sweeps/prober.hpp"

namespace helix {

/// What attention kernels are asked to do in the models of a run.
struct HeadShape {
  AttentionKind kind;
  std::int64_t q_heads, kv_heads, head_dim, v_dim;
};

KernelRate probe_gemm(Backend& backend, Prober& prober, const ColdMemory& cold);
/// `ffn`: width of an expert.
KernelRate probe_moe(Backend& backend, Prober& prober, const ColdMemory& cold, std::int64_t hidden,
                     std::int64_t ffn);
/// Makes the memory hold a KV cache: its bf16 values would be huge as fp8, and their softmax not the usual
/// one.
void fill_as_cache(Backend& backend, const ColdMemory& cold, DType dtype);
/// All shapes of one kind.
KernelRate probe_attention(Backend& backend, Prober& prober, const ColdMemory& cold, DType dtype,
                           const std::vector<HeadShape>& shapes);
KernelRate probe_elementwise(Backend& backend, Prober& prober);

}  // namespace helix
