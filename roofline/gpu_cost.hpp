// Time of a decode kernel on a GPU, from its tiles, splits and waves over the SMs, DRAM, L2 and NVLink.
//
// Memory, the tiles' latency chain and arithmetic overlap as the root of their squares: t = fixed + |(t_mem,
// t_k, t_c)| + what nothing overlaps.
#pragma once

#include "roofline/decode_ops.hpp"
#include "roofline/op_cost.hpp"
#include "roofline/system_spec.hpp"

namespace helix {

/// In a model's decode step, weights and KV come from DRAM and kernels run in a CUDA graph, where
/// quantisation is part of the kernel before. A benchmark loop replays one op on the same buffers: what fits
/// stays in the L2, and every kernel of the op is timed.
enum class Setting { decode_step, benchmark_loop };

OpTime gemm_time(const SystemSpec& system, const GpuGemm& kernel, const GemmShape& shape, double weight_bytes,
                 Setting setting);
OpTime gqa_time(const SystemSpec& system, const AttentionShape& shape, double kv_bytes, Setting setting);
OpTime mla_time(const SystemSpec& system, const AttentionShape& shape, double kv_bytes, bool fp8,
                Setting setting);
OpTime moe_time(const SystemSpec& system, const GpuMoe& kernel, const MoeShape& shape, double weight_bytes,
                Setting setting);
/// NCCL's way.
double library_collective_us(const SystemSpec& system, const CollectiveShape& shape);
/// One-shot kernels; of an all-reduce the faster of one shot and two.
double one_shot_us(const SystemSpec& system, const CollectiveShape& shape);
/// The faster of both inside the NVLink domain; across domains each domain does its part, then all at once.
OpTime gpu_collective_time(const SystemSpec& system, const CollectiveShape& shape);

/// An op of a decode step.
OpTime gpu_op_time(const Op& op, const SystemSpec& system);

}  // namespace helix
