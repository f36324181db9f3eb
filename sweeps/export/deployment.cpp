#include "sweeps/export/deployment.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

const ResultRow& ok_row(const Run& run, const std::string& id) {
  const auto row = std::ranges::find(run.rows, id, &ResultRow::id);
  const std::string directory = run.directory.string();
  if (row == run.rows.end()) {
    const auto example = std::ranges::find(run.rows, true, &ResultRow::pareto);
    throw UsageError(fmt::format(
        "--point '{}': no such row; valid: an id (first column) of {}/pareto.csv or {}/results.csv{}", id,
        directory, directory,
        example == run.rows.end() ? "" : fmt::format(", for instance '{}'", example->id)));
  }
  if (row->status != Status::ok) {
    throw UsageError(fmt::format("--point '{}': the row is {}: {}; valid: a row with status ok", id,
                                 name(row->status), row->reason));
  }
  return *row;
}

std::string text_of(const nlohmann::ordered_json& object, const char* key) {
  const auto value = object.is_object() ? object.find(key) : object.end();
  return value != object.end() && value->is_string() ? value->get<std::string>() : std::string();
}

/// What run.json keeps of a model, or of a draft head, that came from a file.
void read_kept_model(const Run& run, DeployedPoint& point) {
  const auto models = run.provenance.find("models");
  if (models == run.provenance.end() || !models->is_array()) return;
  for (const auto& entry : *models) {
    if (text_of(entry, "name") != point.row.config.model) continue;
    const auto draft = entry.find("draft_model");
    if (draft != entry.end() && text_of(*draft, "name") == point.row.config.draft_head)
      point.draft_file = text_of(*draft, "file");
    if (text_of(entry, "config").empty()) continue;
    point.model = parse_model(text_of(entry, "config"), (run.directory / "run.json").string() + ": models");
    point.model->name = text_of(entry, "name");
    const std::filesystem::path file = text_of(entry, "file");
    if (file.filename() == "config.json") point.checkpoint = file.parent_path().string();
  }
}

/// Between double quotes and inside ${...}.
bool needs_no_escape(const std::string& text) {
  return std::ranges::all_of(text, [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("/._-+=@%,: ").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

}  // namespace

DeployedPoint deployed_point(const Run& run, const std::string& id) {
  DeployedPoint point{.row = ok_row(run, id), .model = std::nullopt};
  const std::string& model = point.row.config.model;
  const std::vector<std::string> built_in = built_in_models();
  read_kept_model(run, point);
  if (!point.model && std::ranges::find(built_in, model) != built_in.end()) point.model = load_model(model);
  return point;
}

std::string deployment_header(const DeployedPoint& point) {
  const ResultRow& row = point.row;
  const DecodeShape& shape = row.config.shape;
  std::string text = fmt::format("# {}\n", row.id);
  text += fmt::format("# {}: {} on {} GPUs, {}\n", row.config.model, name(row.config.strategy),
                      row.config.sharding.ranks(), sharding_text(row.config));
  text += fmt::format("# {} with {}: {:.4g} tokens/s/user, {:.4g} tokens/s/GPU, {} requests of {} tokens\n",
                      row.measurement ? "measured" : "predicted", row.system, tokens_per_s_user(row),
                      tokens_per_s_gpu(row), shape.batch, shape.context);
  const bool of_checkpoint = row.config.precision_source == "file" && point.model;
  if (shape.weight_dtype != DType::bf16 && !of_checkpoint) {
    text += fmt::format("# weights are {}: serve a checkpoint of this precision\n", name(shape.weight_dtype));
  }
  return text;
}

std::string long_context_note(const DeployedPoint& point, std::string_view remedy) {
  const std::int64_t context = point.row.config.shape.context;
  if (!point.model || point.model->max_position == 0 || context <= point.model->max_position) return "";
  return fmt::format("# {} tokens exceed the model's max_position_embeddings = {}: {}.\n", context,
                     point.model->max_position, remedy);
}

std::string hop_b_note(std::string_view engine, const DeployedPoint& point) {
  const int hop_b = point.row.config.shape.hop_b;
  if (hop_b == 1) return "";
  return fmt::format("# HOP-B is not in {}: the figures above have {} pieces, expect those of hop_b = 1.\n",
                     engine, hop_b);
}

std::string projection_note(std::string_view engine, const DeployedPoint& point) {
  if (point.row.config.shape.exchange.projection == CacheExchange::Projection::after_merge) return "";
  return fmt::format("# The figures above have values made before ranks merge: {} has no flag for it.\n",
                     engine);
}

bool drafts_itself(const DeployedPoint& point) {
  return point.row.config.shape.draft_tokens > 0 && !drafts_with_head(point) && point.model &&
         point.model->draft_layers > 0;
}

std::string draft_checkpoint(const DeployedPoint& point) {
  const std::filesystem::path file = point.draft_file;
  return file.filename() == "config.json" ? file.parent_path().string() : std::string();
}

std::string draft_checkpoint_variable(const DeployedPoint& point) {
  const std::string known = draft_checkpoint(point);
  const bool fits = !known.empty() && needs_no_escape(known);
  return fmt::format("${{DRAFT_MODEL{}}}",
                     fits ? fmt::format(":-{}", known) : ":?path or name of the draft head");
}

std::string draft_note(std::string_view engine, const DeployedPoint& point) {
  const int drafts = point.row.config.shape.draft_tokens;
  if (drafts == 0 || drafts_itself(point) || drafts_with_head(point)) return "";
  return fmt::format(
      "# The figures above check {} drafted token{} a step: {} has to be told which model makes them.\n",
      drafts, drafts == 1 ? "" : "s", engine);
}

std::string draft_kv_note(std::string_view engine, const DeployedPoint& point, DraftKv of_engine) {
  const Configuration& config = point.row.config;
  if (!(drafts_itself(point) || drafts_with_head(point)) || config.sharding.kvp == 1 ||
      config.shape.draft_kv == of_engine)
    return "";
  const bool local = of_engine == DraftKv::local;
  return fmt::format("# The figures above have {} drafts: {}'s draft layer attends {} (--draft-kv {}).\n",
                     name(config.shape.draft_kv), engine,
                     local ? "to what each GPU holds, without the all-to-all" : "as its other layers",
                     name(of_engine));
}

std::string serve_command(const DeployedPoint& point, std::string_view program,
                          const std::vector<std::string>& flags) {
  const bool known = !point.checkpoint.empty() && needs_no_escape(point.checkpoint);
  const std::string model = known ? ":-" + point.checkpoint : ":?path or name of the checkpoint";
  return fmt::format("{} \"${{MODEL{}}}\" \\\n  {}\n", program, model, fmt::join(flags, " \\\n  "));
}

UsageError not_deployable(std::string_view engine, const DeployedPoint& point, std::string_view why) {
  return UsageError(fmt::format("{} cannot run '{}': {}", engine, point.row.id, why));
}

void refuse_idle_ranks(std::string_view engine, const DeployedPoint& point) {
  const StrategyTraits& strategy = traits(point.row.config.strategy);
  if (!strategy.idles_ranks()) return;
  throw not_deployable(engine, point,
                       fmt::format("it has no FFN that leaves ranks idle as {} does; valid: points of other "
                                   "strategies",
                                   strategy.name));
}

void refuse_4_bit_latents(std::string_view engine, const DeployedPoint& point) {
  const DType kv = point.row.config.shape.kv_dtype;
  const bool mla = point.model && point.model->attention.kind == AttentionKind::mla;
  if (!mla || (kv != DType::nvfp4 && kv != DType::fp4)) return;
  throw not_deployable(
      engine, point,
      fmt::format("it has no {} KV cache for MLA; valid: points with kv_dtype bf16 or fp8", name(kv)));
}

std::string check_split_inside_tp(std::string_view engine, const DeployedPoint& point) {
  const Sharding& s = point.row.config.sharding;
  if (s.kvp == 1) return "";
  if (!point.model) {
    return fmt::format("# Decode context parallelism needs as many KV heads as TPA = {}, or MLA.\n", s.tpa);
  }
  const std::int64_t heads = point.model->attention.kv_heads;
  if (s.tpa == heads) return "";
  throw not_deployable(
      engine, point,
      fmt::format("its decode context parallelism splits only KV heads that TP has duplicated, which needs "
                  "TPA = K: TPA {}, {} KV heads; valid: points with TPA = {}",
                  s.tpa, heads, heads));
}

}  // namespace helix
