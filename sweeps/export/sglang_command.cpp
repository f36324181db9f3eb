#include "sweeps/export/sglang_command.hpp"

#include <fmt/format.h>

#include <vector>

namespace helix {
namespace {

constexpr std::string_view sglang = "SGLang";

std::string sglang_kv_dtype(const DeployedPoint& point) {
  switch (point.row.config.shape.kv_dtype) {
    case DType::fp8:
      return "fp8_e4m3";
    case DType::nvfp4:
    case DType::fp4:
      return "fp4_e2m1";
    default:  // auto is what the checkpoint says
      return point.model && point.model->kv_dtype != DType::bf16 ? "bf16" : "auto";
  }
}

}  // namespace

std::string sglang_command(const DeployedPoint& point) {
  const Sharding& s = point.row.config.sharding;
  const DecodeShape& shape = point.row.config.shape;
  refuse_idle_ranks(sglang, point);
  std::string notes = check_split_inside_tp(sglang, point) + hop_b_note(sglang, point) +
                      draft_note(sglang, point) +
                      long_context_note(point,
                                        "SGLang takes it with "
                                        "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1");
  if (s.kvp > 1 && point.model && point.model->attention.kind == AttentionKind::gqa) {
    notes +=
        "# Decode context parallelism is documented for MLA; GQA needs a backend that merges partials "
        "(triton).\n";
  }
  if (s.kvp > 1) {
    notes += fmt::format("# Tokens go round the ranks one by one: figures above have blocks of {} tokens.\n",
                         shape.tokens_per_block);
  }
  notes += projection_note(sglang, point) + draft_kv_note(sglang, point, DraftKv::sharded);
  const std::string kv_dtype = sglang_kv_dtype(point);
  if (kv_dtype == "fp4_e2m1") notes += "# A 4-bit KV cache is experimental in SGLang.\n";

  std::vector<std::string> flags;
  const auto add = [&](std::string_view flag, const auto& value) {
    flags.push_back(fmt::format("{} {}", flag, value));
  };
  // Of all ranks of a stage: attention data parallelism divides them, and the FFN has them all.
  add("--tp-size", s.stage_ranks());
  if (s.kvp > 1) {
    add("--dcp-size", s.kvp);
    add("--dcp-comm-backend", "a2a");
  }
  if (s.pp > 1) add("--pp-size", s.pp);
  if (s.dp > 1) {
    add("--dp-size", s.dp);
    flags.emplace_back("--enable-dp-attention");
  }
  if (s.ep > 1) add("--ep-size", s.ep);
  if (shape.redundant_experts > 0) {
    flags.emplace_back("--enable-eplb");
    add("--ep-num-redundant-experts", shape.redundant_experts);
  }
  add("--kv-cache-dtype", kv_dtype);
  if (drafts_itself(point) || drafts_with_head(point)) {  // a chain, whose first token is the step's own
    add("--speculative-algorithm", drafts_with_head(point) ? "EAGLE3" : "EAGLE");
    if (drafts_with_head(point))
      flags.push_back(
          fmt::format(R"(--speculative-draft-model-path "{}")", draft_checkpoint_variable(point)));
    add("--speculative-num-steps", shape.draft_tokens);
    add("--speculative-eagle-topk", 1);
    add("--speculative-num-draft-tokens", shape.query_tokens());
  }
  add("--context-length", shape.context);
  add("--max-running-requests", shape.batch);  // of all data-parallel groups and stages
  return deployment_header(point) + notes +
         serve_command(point, "python3 -m sglang.launch_server --model-path", flags);
}

}  // namespace helix
