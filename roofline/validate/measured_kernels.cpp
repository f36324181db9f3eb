// Kernels that were measured in benchmark loops.
#include <fmt/format.h>

#include <algorithm>

#include "roofline/base/error.hpp"
#include "roofline/cost/gpu_cost.hpp"
#include "roofline/validate/benchmark_loop.hpp"
#include "roofline/validate/verdict.hpp"

namespace helix {
namespace {

constexpr std::int64_t decode_tokens = 256, decode_context = 1024;

Judged judged(const MeasuredRow& row, const std::string& family, double model_us) {
  return {family, model_us, row.positive("latency_us")};
}

Verdict judge_attention(const MeasuredRow& row, const SystemSpec& system) {
  const bool mla = row.text("op") == "mla_decode";
  const std::int64_t tokens = row.count("context_len_tokens");
  if (tokens < decode_context) return LeftOut{"context below 1024"};
  const double kv_bytes = row.number("kv_bytes");
  const DType cache = row.text("kv_dtype") == "fp8" ? DType::fp8 : DType::bf16;
  const AttentionShape s{.kind = mla ? AttentionKind::mla : AttentionKind::gqa,
                         .batch = row.count("batch"),
                         .q_heads = row.count(mla ? "local_q_heads" : "q_heads"),
                         .kv_heads = mla ? 1 : row.count("kv_heads"),
                         .head_dim = row.count(mla ? "kv_dim" : "head_dim"),
                         .v_dim = row.count(mla ? "v_dim" : "head_dim"),
                         .tokens = tokens};
  if (mla) return judged(row, "mla_decode", benchmark_loop::mla_us(system, s, kv_bytes, cache));
  const std::string family = row.flag("slow_mmha_fallback") ? "gqa_decode_cuda_cores" : "gqa_decode";
  return judged(row, family, benchmark_loop::gqa_us(system, gqa_kernel(system, s, cache), s, kv_bytes));
}

Verdict judge_gemm(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& dtype = row.text("gemm_dtype");
  const GemmShape s{.m = row.count("m"), .n = row.count("n"), .k = row.count("k")};
  if (s.m > decode_tokens) return LeftOut{"m above 256"};
  const double bytes = row.number("weight_bytes_incl_scales");
  for (const GpuGemm& g : system.gpu->gemm) {
    if (name(g.format) == dtype)
      return judged(row, "gemm_" + dtype, benchmark_loop::gemm_us(system, g, s, bytes));
  }
  return LeftOut{"no such GEMM in the system: " + dtype};
}

Verdict judge_moe(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& kernel = row.text("kernel");
  const std::string& dtype = row.text("moe_dtype");
  const std::int64_t experts = row.count("num_experts"), ep = row.count("moe_ep"), tp = row.count("moe_tp");
  if (row.count("num_tokens") > decode_tokens) return LeftOut{"more than 256 tokens"};
  const MoeShape s{.tokens = row.count("num_tokens"),
                   .hidden = row.count("hidden"),
                   .ffn = row.count("inter") / tp,
                   .local_experts = std::max<std::int64_t>(1, experts / ep),
                   .top_k = row.count("topk"),
                   .active_experts = row.number("rank0_active_experts_est"),
                   .pairs = row.number("rank0_token_expert_pairs_est")};
  const double bytes = s.active_experts * row.number("bytes_per_local_expert");
  for (const GpuMoe& g : system.gpu->moe) {
    if (name(g.kernel) != kernel || name(g.format) != dtype) continue;
    return judged(row, "moe_" + kernel, benchmark_loop::moe_us(system, g, s, bytes));
  }
  return LeftOut{"no such MoE kernel in the system: " + kernel + " " + dtype};
}

Verdict judge_collective(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& op = row.text("op");
  CollectiveShape s{.group = static_cast<int>(row.count("gpus")),
                    .payload_bytes = row.number("buffer_bytes_nccl_tests_convention")};
  if (op == "trtllm_custom_all_reduce") return judged(row, op, one_shot_us(system, s));
  if (op == "nccl_all_gather") s.op = Collective::all_gather;
  if (op == "nccl_reduce_scatter") s.op = Collective::reduce_scatter;
  if (op == "nccl_alltoall") s.op = Collective::all_to_all;
  return judged(row, op, library_collective_us(system, s));
}

/// Dispatch and combine inside one NVLink domain. Values that come back are bf16, or with the type `fp4` narrowed.
Verdict judge_expert_exchange(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& op = row.text("op");
  const std::string& kernel = row.text("kernel");
  const std::string& dtype = row.text("dispatch_dtype");
  const bool combine = op == "moe_a2a_combine", narrows = combine && dtype == "fp4";
  const double bytes = combine || dtype == "bfloat16" ? bf16_bytes
                       : dtype == "fp8"               ? bytes_per_value(DType::fp8)
                                                      : bytes_per_value(DType::nvfp4);
  const CollectiveShape s{.op = Collective::all_to_all,
                          .group = static_cast<int>(row.count("ep_gpus")),
                          .routed = {.tokens = row.count("tokens_per_rank"),
                                     .top_k = row.count("topk"),
                                     .hidden = row.count("hidden"),
                                     .bytes_per_value = bytes,
                                     .combine = combine}};
  if (s.group > system.link.domain) return LeftOut{"experts beyond one NVLink domain"};
  if (s.routed.tokens > decode_tokens) return LeftOut{"more than 256 tokens a rank"};
  for (const GpuExpertExchange& e : system.gpu->expert_exchanges) {
    if (e.kernel != kernel) continue;
    return judged(row, op + "_" + kernel, benchmark_loop::expert_exchange_us(system, e, s, narrows));
  }
  return LeftOut{"no such expert all-to-all in the system: " + kernel};
}

}  // namespace

Verdict judge_kernel(const MeasuredRow& row, const SystemSpec& system) {
  const std::string& op = row.text("op");
  if (op == "gqa_decode" || op == "mla_decode") return judge_attention(row, system);
  if (op == "gemm") return judge_gemm(row, system);
  if (op == "moe") return judge_moe(row, system);
  if (op == "moe_a2a_dispatch" || op == "moe_a2a_combine") return judge_expert_exchange(row, system);
  for (const char* collective : {"nccl_all_reduce", "nccl_all_gather", "nccl_reduce_scatter", "nccl_alltoall",
                                 "trtllm_custom_all_reduce"}) {
    if (op == collective) return judge_collective(row, system);
  }
  throw UsageError(fmt::format(
      "{}: unknown op '{}'; valid: gqa_decode, mla_decode, gemm, moe, moe_a2a_dispatch, moe_a2a_combine, "
      "nccl_all_reduce, nccl_all_gather, nccl_reduce_scatter, nccl_alltoall, trtllm_custom_all_reduce",
      row.where(), op));
}

}  // namespace helix
