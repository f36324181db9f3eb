// Writes a point as TensorRT-LLM's configuration.
#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "roofline/base/arithmetic.hpp"
#include "sweeps/export/trtllm_config.hpp"

namespace helix {
namespace {

constexpr std::string_view trtllm = "TensorRT-LLM";

std::string head_note(const DeployedPoint& point) {
  if (!drafts_with_head(point) || !draft_checkpoint(point).empty()) return "";
  return fmt::format("# speculative_config.speculative_model has to name the checkpoint of {}.\n",
                     point.row.config.draft_head);
}

/// What the keys cannot say, as comments.
std::string notes(const DeployedPoint& point) {
  const DecodeShape& shape = point.row.config.shape;
  std::string text;
  if (point.row.config.sharding.kvp > 1) {
    text += "# Helix is for generation servers of a disaggregated deployment.\n";
    text += "# Where all GPUs share NVLink, cp_config.use_nccl_for_alltoall: false is faster.\n";
  }
  text += hop_b_note(trtllm, point) + draft_note(trtllm, point) +
          draft_kv_note(trtllm, point, DraftKv::local) + head_note(point) +
          long_context_note(point, "max_seq_len alone does not scale RoPE, the checkpoint has to");
  if (shape.kv_dtype == DType::fp4) {
    text += "# The figures above count 0.5 bytes per KV value; nvfp4 takes 0.5625.\n";
  }
  if (shape.kv_dtype == DType::bf16 && point.model && point.model->kv_dtype != DType::bf16) {
    text += fmt::format("# The figures above have a bf16 KV cache; auto takes the checkpoint's, {}.\n",
                        name(point.model->kv_dtype));
  }
  return text;
}

/// What it takes besides the keys to have this point again from the file: see load_trtllm_config.
std::string own_comments(const DeployedPoint& point) {
  const Configuration& config = point.row.config;
  const DecodeShape& shape = config.shape;
  std::string text;
  const auto setting = [&](std::string_view key, std::string_view value) {
    text += fmt::format("{}{} {}\n", own_comment, key, value);
  };
  if (config.precision_source != "file") {
    std::string parts = config.precision;
    std::ranges::replace(parts, ' ', ',');
    setting("weight-dtype", shape.weights ? std::string_view(parts) : name(shape.weight_dtype));
  }
  const bool of_checkpoint = point.model && point.model->kv_dtype == shape.kv_dtype;
  if (shape.kv_dtype == DType::fp4 || (shape.kv_dtype == DType::bf16 && !of_checkpoint)) {
    setting("kv-dtype", name(shape.kv_dtype));
  }
  if (shape.draft_tokens > 0) {
    if (!drafts_itself(point) && !drafts_with_head(point))
      setting("draft-tokens", fmt::format("{}", shape.draft_tokens));
    if (shape.acceptance > 0) setting("acceptance", fmt::format("{:g}", shape.acceptance));
    if (!point.draft_file.empty()) setting("draft-model", point.draft_file);
    if (config.sharding.kvp > 1) setting("draft-kv", name(shape.draft_kv));
  }
  setting("hop-b", shape.hop_b == 1 ? "off" : fmt::format("{}", shape.hop_b));
  return text;
}

}  // namespace

std::string trtllm_config(const DeployedPoint& point) {
  const Sharding& s = point.row.config.sharding;
  const DecodeShape& shape = point.row.config.shape;
  refuse_idle_ranks(trtllm, point);
  refuse_4_bit_latents(trtllm, point);
  if (traits(point.row.config.strategy).cuts_group) {
    throw not_deployable(trtllm, point, "its context parallelism is Helix, not dcp; valid: points of helix");
  }
  if (s.dp > 1 && s.tpa > 1) {
    throw not_deployable(
        trtllm, point,
        fmt::format("its attention data parallelism takes all ranks of tensor_parallel_size, so DP {} "
                    "and TPA {} exclude each other; valid: points with DP = 1 or TPA = 1",
                    s.dp, s.tpa));
  }
  YAML::Emitter out;
  out << YAML::BeginMap;
  const auto entry = [&](const char* key, const auto& value) {
    out << YAML::Key << key << YAML::Value << value;
  };
  entry("tensor_parallel_size", s.dp > 1 ? s.dp : s.tpa);
  if (s.dp > 1) entry("enable_attention_dp", true);
  if (s.kvp > 1) entry("context_parallel_size", s.kvp);
  entry("pipeline_parallel_size", s.pp);
  if (!point.model || point.model->moe.experts > 0) entry("moe_expert_parallel_size", s.ep);
  if (shape.redundant_experts > 0 && point.model) {
    out << YAML::Key << "moe_config" << YAML::Value << YAML::BeginMap;
    out << YAML::Key << "load_balancer" << YAML::Value << YAML::BeginMap;
    entry("num_slots", point.model->moe.experts + shape.redundant_experts);
    out << YAML::EndMap << YAML::EndMap;
  }
  if (s.kvp > 1) {
    out << YAML::Key << "cp_config" << YAML::Value << YAML::BeginMap;
    entry("cp_type", "HELIX");
    entry("tokens_per_block", shape.tokens_per_block);
    out << YAML::EndMap;
  }
  out << YAML::Key << "kv_cache_config" << YAML::Value << YAML::BeginMap;
  entry("tokens_per_block", shape.tokens_per_block);
  if (shape.kv_dtype == DType::bf16)
    entry("dtype", "auto");
  else
    entry("dtype", shape.kv_dtype == DType::fp8 ? "fp8" : "nvfp4");
  out << YAML::EndMap;
  if (drafts_itself(point)) {
    out << YAML::Key << "speculative_config" << YAML::Value << YAML::BeginMap;
    entry("decoding_type", "MTP");
    entry("max_draft_len", shape.draft_tokens);
    out << YAML::EndMap;
  }
  if (drafts_with_head(point)) {
    out << YAML::Key << "speculative_config" << YAML::Value << YAML::BeginMap;
    entry("decoding_type", "Eagle3");
    entry("eagle3_one_model", true);
    entry("max_draft_len", shape.draft_tokens);
    if (const std::string known = draft_checkpoint(point); !known.empty()) entry("speculative_model", known);
    out << YAML::EndMap;
  }
  // Of a micro-batch on a rank: of its own requests with attention data parallelism.
  entry("max_batch_size", ceil_div(ceil_div(shape.batch, s.pp), s.dp));
  entry("max_seq_len", shape.context);
  out << YAML::EndMap;
  return deployment_header(point) + notes(point) + own_comments(point) + out.c_str() + '\n';
}

}  // namespace helix
