#include "sweeps/export/vllm_command.hpp"

#include <fmt/format.h>

#include <vector>

#include "roofline/base/arithmetic.hpp"

namespace helix {
namespace {

constexpr std::string_view vllm = "vLLM";
constexpr int block_unit = 16;  // vLLM's blocks are multiples of this many tokens

/// The FFN is spread over all ranks of a stage, as tensor parallelism or as expert parallelism.
void check_ffn(const DeployedPoint& point) {
  const Sharding& s = point.row.config.sharding;
  if (s.ep > 1 && s.tpf > 1) {
    throw not_deployable(
        vllm, point,
        fmt::format("it spreads experts over all ranks or none: TPF {} EP {}; valid: points with "
                    "TPF = 1 or EP = 1",
                    s.tpf, s.ep));
  }
  if (s.dp > 1 && s.ep == 1) {
    throw not_deployable(
        vllm, point,
        fmt::format("its data-parallel groups share experts, not a dense FFN: DP {} EP 1; valid: "
                    "points with EP = N or DP = 1",
                    s.dp));
  }
}

/// Backends for MLA bring block sizes of their own (on Blackwell FLASHINFER_MLA 32 and 64, CUTLASS_MLA 128)
/// and with decode context parallelism take tokens round robin only.
bool chooses_blocks(const DeployedPoint& point) {
  return point.model && point.model->attention.kind != AttentionKind::mla;
}

std::string vllm_kv_dtype(const DeployedPoint& point) {
  switch (point.row.config.shape.kv_dtype) {
    case DType::fp8:
      return "fp8";
    case DType::nvfp4:
    case DType::fp4:
      return "nvfp4";
    default:  // auto is what the checkpoint says
      return point.model && point.model->kv_dtype != DType::bf16 ? "bfloat16" : "auto";
  }
}

}  // namespace

std::string vllm_command(const DeployedPoint& point) {
  const Sharding& s = point.row.config.sharding;
  const DecodeShape& shape = point.row.config.shape;
  refuse_idle_ranks(vllm, point);
  refuse_4_bit_latents(vllm, point);
  check_ffn(point);
  std::string notes = check_split_inside_tp(vllm, point) + hop_b_note(vllm, point) + draft_note(vllm, point) +
                      long_context_note(point,
                                        "vLLM takes it with VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 or a "
                                        "rope_scaling in --hf-overrides");
  notes += projection_note(vllm, point) + draft_kv_note(vllm, point, DraftKv::sharded);
  if (shape.kv_dtype == DType::fp4) {
    notes += "# The figures above count 0.5 bytes per KV value; nvfp4 takes 0.5625.\n";
  }

  std::vector<std::string> flags;
  const auto add = [&](std::string_view flag, const auto& value) {
    flags.push_back(fmt::format("{} {}", flag, value));
  };
  add("--tensor-parallel-size", s.kvp * s.tpa);
  if (s.kvp > 1) {
    add("--decode-context-parallel-size", s.kvp);
    const bool scatters =
        traits(point.row.config.strategy).cuts_group && shape.exchange.merge == CacheExchange::Merge::ag_rs;
    add("--dcp-comm-backend", scatters ? "ag_rs" : "a2a");
  }
  if (s.pp > 1) add("--pipeline-parallel-size", s.pp);
  if (s.dp > 1) add("--data-parallel-size", s.dp);
  if (s.ep > 1) flags.emplace_back("--enable-expert-parallel");
  if (shape.redundant_experts > 0) {
    flags.emplace_back("--enable-eplb");
    add("--eplb-config", fmt::format(R"('{{"num_redundant_experts": {}}}')", shape.redundant_experts));
  }
  add("--kv-cache-dtype", vllm_kv_dtype(point));
  if (!chooses_blocks(point)) {
    if (s.kvp > 1) {
      notes += fmt::format(
          "# Blocks and interleaving are the backend's: figures above have blocks of {} tokens.\n",
          shape.tokens_per_block);
    }
  } else if (shape.tokens_per_block % block_unit == 0) {
    add("--block-size", shape.tokens_per_block);
    if (s.kvp > 1) add("--cp-kv-cache-interleave-size", shape.tokens_per_block);  // whole blocks to a rank
  } else {
    notes += fmt::format("# Blocks of {} tokens: vLLM's are multiples of {}, its default stands.\n",
                         shape.tokens_per_block, block_unit);
  }
  if (drafts_itself(point)) {
    add("--speculative-config",
        fmt::format(R"('{{"method": "mtp", "num_speculative_tokens": {}}}')", shape.draft_tokens));
  }
  if (drafts_with_head(point)) {
    add("--speculative-config",
        fmt::format(R"('{{"method": "eagle3", "model": "'"{}"'", "num_speculative_tokens": {}}}')",
                    draft_checkpoint_variable(point), shape.draft_tokens));
  }
  add("--max-model-len", shape.context);
  add("--max-num-seqs", ceil_div(shape.batch, s.dp));  // of each data-parallel group, all its stages
  return deployment_header(point) + notes + serve_command(point, "vllm serve", flags);
}

}  // namespace helix
