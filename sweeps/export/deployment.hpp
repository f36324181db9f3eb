// From a row of a run to what deploys it: what the formats share. See trtllm_config,
// vllm_command and sglang_command.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/model/model_spec.hpp"
#include "sweeps/results/run_reader.hpp"

namespace helix {

/// A row with what is known of its model.
struct DeployedPoint {
  ResultRow row;
  std::optional<ModelSpec> model;  // nothing: neither built in nor kept by the run
  std::string checkpoint{};        // the folder of its config.json, if it came from one
  std::string draft_file{};        // of the head that makes its drafts, if the run says where it was
};

/// The ok row of this id. Throws UsageError: none, or one that has not run.
DeployedPoint deployed_point(const Run& run, const std::string& id);

/// Comment lines that open a configuration: which point it is, and its figures.
std::string deployment_header(const DeployedPoint& point);

/// "# ..." for a context longer than the model was made for, else nothing; `remedy` says what the engine
/// needs to take it.
std::string long_context_note(const DeployedPoint& point, std::string_view remedy);

/// "# ..." for HOP-B, which `engine` does not have, else nothing.
std::string hop_b_note(std::string_view engine, const DeployedPoint& point);
/// "# ..." where MLA's values are made before ranks merge their outputs, which no flag asks for, else nothing.
std::string projection_note(std::string_view engine, const DeployedPoint& point);

/// Whether the model drafts the point's tokens itself, with its own draft layers.
bool drafts_itself(const DeployedPoint& point);
/// Whether an Eagle-3 head does.
inline bool drafts_with_head(const DeployedPoint& point) {
  return !point.row.config.draft_head.empty();
}
/// The folder of that head's config.json, "" if it is not known.
std::string draft_checkpoint(const DeployedPoint& point);
/// The same for a command line, between double quotes: a shell's variable DRAFT_MODEL comes first.
std::string draft_checkpoint_variable(const DeployedPoint& point);
/// "# ..." for drafts of another model, which is to be named to the engine, else nothing.
std::string draft_note(std::string_view engine, const DeployedPoint& point);
/// "# ..." for a draft layer that attends under KVP in another way than the engine's own, else nothing.
std::string draft_kv_note(std::string_view engine, const DeployedPoint& point, DraftKv of_engine);

/// A shell command: `program` with the checkpoint (MODEL in the environment names another one, or the one)
/// and the flags, each on a line of its own.
std::string serve_command(const DeployedPoint& point, std::string_view program,
                          const std::vector<std::string>& flags);

/// "TensorRT-LLM cannot run ID: WHY".
UsageError not_deployable(std::string_view engine, const DeployedPoint& point, std::string_view why);

/// Throws not_deployable for a strategy whose FFN leaves ranks idle: no engine has one.
void refuse_idle_ranks(std::string_view engine, const DeployedPoint& point);

/// Throws not_deployable for a 4-bit KV cache of a model with MLA.
void refuse_4_bit_latents(std::string_view engine, const DeployedPoint& point);

/// Decode context parallelism of vLLM and SGLang splits the ranks of tensor parallelism, TP = KVP x TPA, and
/// takes the place of duplicated KV heads only. Throws not_deployable where TPA is not K; a note where K is
/// not known.
std::string check_split_inside_tp(std::string_view engine, const DeployedPoint& point);

}  // namespace helix
