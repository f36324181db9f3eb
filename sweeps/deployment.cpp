#include "sweeps/deployment.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "sweeps/result_columns.hpp"
#include "sweeps/row_text.hpp"

namespace helix {

const ResultRow& deployable_row(const Run& run, const std::string& id) {
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

std::optional<ModelSpec> model_of(const ResultRow& row) {
  const std::vector<std::string> known = built_in_models();
  if (std::ranges::find(known, row.config.model) == known.end()) return std::nullopt;
  return load_model(row.config.model);
}

std::string deployment_header(const ResultRow& row) {
  const DecodeShape& shape = row.config.shape;
  std::string text = fmt::format("# {}\n", row.id);
  text += fmt::format("# {}: {} on {} GPUs, {}\n", row.config.model, name(row.config.strategy),
                      row.config.sharding.ranks(), sharding_text(row.config));
  text += fmt::format("# {} with {}: {:.4g} tokens/s/user, {:.4g} tokens/s/GPU, {} requests of {} tokens\n",
                      row.measurement ? "measured" : "predicted", row.system, tokens_per_s_user(row),
                      tokens_per_s_gpu(row), shape.batch, shape.context);
  if (shape.weight_dtype != DType::bf16) {
    text += fmt::format("# weights are {}: serve a checkpoint of this precision\n", name(shape.weight_dtype));
  }
  return text;
}

UsageError not_deployable(std::string_view engine, const ResultRow& row, std::string_view why) {
  return UsageError(fmt::format("{} cannot run '{}': {}", engine, row.id, why));
}

}  // namespace helix
