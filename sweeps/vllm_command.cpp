#include "sweeps/vllm_command.hpp"

#include <fmt/format.h>

#include <vector>

#include "sweeps/deployment.hpp"

namespace helix {
namespace {

constexpr std::string_view engine = "vLLM";
constexpr int block_unit = 16;  // vLLM's blocks are multiples of this many tokens

/// Decode context parallelism splits the ranks of tensor parallelism: TP = KVP x TPA. It takes the place of
/// duplicated KV heads only, so each of them has to be on TP / KVP ranks at least.
void check_attention(const ResultRow& row, const std::optional<ModelSpec>& model) {
  const Sharding& s = row.config.sharding;
  if (s.kvp > 1 && model && s.tpa != model->attention.kv_heads) {
    throw not_deployable(
        engine, row,
        fmt::format("its decode context parallelism splits only KV heads that TP has duplicated, "
                    "which needs TPA = K: TPA {}, {} KV heads; valid: points with TPA = {}",
                    s.tpa, model->attention.kv_heads, model->attention.kv_heads));
  }
}

/// The FFN is spread over all ranks of a stage, as tensor parallelism or as expert parallelism.
void check_ffn(const ResultRow& row) {
  const Sharding& s = row.config.sharding;
  if (s.ep > 1 && s.tpf > 1) {
    throw not_deployable(
        engine, row,
        fmt::format("it spreads experts over all ranks or none: TPF {} EP {}; valid: points with "
                    "TPF = 1 or EP = 1",
                    s.tpf, s.ep));
  }
  if (s.dp > 1 && s.ep == 1) {
    throw not_deployable(
        engine, row,
        fmt::format("its data-parallel groups share experts, not a dense FFN: DP {} EP 1; valid: "
                    "points with EP = N or DP = 1",
                    s.dp));
  }
}

std::string notes(const ResultRow& row, const std::optional<ModelSpec>& model) {
  const Sharding& s = row.config.sharding;
  const DecodeShape& shape = row.config.shape;
  std::string text;
  if (s.kvp > 1 && !model) {
    text += fmt::format("# Decode context parallelism needs as many KV heads as TPA = {}, or MLA.\n", s.tpa);
  }
  if (shape.hop_b > 1) {
    text += fmt::format(
        "# HOP-B is not in vLLM: the figures above have {} micro-batches, expect those of hop_b = 1.\n",
        shape.hop_b);
  }
  if (shape.kv_dtype == DType::fp4) {
    text += "# The figures above count 0.5 bytes per KV value; nvfp4 takes 0.5625.\n";
  }
  if (shape.tokens_per_block % block_unit != 0) {
    text += fmt::format("# Blocks of {} tokens: vLLM's are multiples of {}, its default stands.\n",
                        shape.tokens_per_block, block_unit);
  }
  return text;
}

}  // namespace

std::string vllm_command(const ResultRow& row) {
  const Sharding& s = row.config.sharding;
  const DecodeShape& shape = row.config.shape;
  if (row.config.strategy == Strategy::medha) {
    throw not_deployable(engine, row,
                         "it has no FFN that leaves the KVP ranks idle; valid: points of other strategies");
  }
  const std::optional<ModelSpec> model = model_of(row);
  check_attention(row, model);
  check_ffn(row);

  std::vector<std::string> flags;
  const auto add = [&](std::string_view flag, const auto& value) {
    flags.push_back(fmt::format("{} {}", flag, value));
  };
  add("--tensor-parallel-size", s.kvp * s.tpa);
  if (s.kvp > 1) {
    add("--decode-context-parallel-size", s.kvp);
    add("--dcp-comm-backend", "a2a");
  }
  if (s.pp > 1) add("--pipeline-parallel-size", s.pp);
  if (s.dp > 1) add("--data-parallel-size", s.dp);
  if (s.ep > 1) flags.push_back("--enable-expert-parallel");
  if (shape.kv_dtype == DType::bf16)
    add("--kv-cache-dtype", "auto");
  else
    add("--kv-cache-dtype", shape.kv_dtype == DType::fp8 ? "fp8" : "nvfp4");
  if (shape.tokens_per_block % block_unit == 0) {
    add("--block-size", shape.tokens_per_block);
    if (s.kvp > 1) add("--cp-kv-cache-interleave-size", shape.tokens_per_block);  // whole blocks to a rank
  }
  add("--max-num-seqs", (shape.batch + s.dp - 1) / s.dp);  // of each data-parallel group
  return fmt::format("{}{}vllm serve \"${{MODEL:?path or name of the checkpoint}}\" \\\n  {}\n",
                     deployment_header(row), notes(row, model), fmt::join(flags, " \\\n  "));
}

}  // namespace helix
