#include "sweeps/output/table.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "sweeps/common/text_table.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

std::string percent(double fraction) {
  return fmt::format("{:.1f} %", 100.0 * fraction);
}

/// How well a prediction is known; ">" where something lies outside of what was fitted.
std::string known_within(const ResultRow& row) {
  if (row.sampled() || !row.prediction || row.prediction->trust.error_percent <= 0) return "";
  const Trust& trust = row.prediction->trust;
  return fmt::format("{}{:.0f} %", trust.extrapolated.any() ? ">" : "", trust.error_percent);
}

using enum TextColumn::Align;
const std::vector<TextColumn> columns{{""},
                                      {"system"},
                                      {"model", left, 1},
                                      {"context", right},
                                      {"batch", right},
                                      {"strategy"},
                                      {"sharding"},
                                      {"weights/KV", left, 6},
                                      {"TTL ms", point, 2},
                                      {"+-", right, 8},
                                      {"tok/s/user", point},
                                      {"tok/s/GPU", point},
                                      {"USD/Mtok", point, 2},
                                      {"J/tok", point, 2},
                                      {"roofline", right, 3},
                                      {"model err", right, 4},
                                      {"bound", left, 7},
                                      {"note", left, 5}};

/// Empty where it is not known.
std::string figure_text(double figure) {
  return figure > 0 ? fmt::format("{:.4g}", figure) : "";
}

std::vector<std::string> cells(const ResultRow& row, const std::string& system, bool narrow) {
  const DecodeShape& shape = row.config.shape;
  const bool both = row.measurement && row.prediction;
  const double ttl_us = row.measurement  ? row.measurement->ttl_us
                        : row.share      ? row.share->composed_us()
                        : row.prediction ? row.prediction->model_ttl_us
                                         : 0.0;
  return {
      row.pareto       ? "*"
      : row.pareto_tie ? "~"
                       : "",
      system, row.config.model, token_text(shape.context), fmt::format("{}", shape.batch),
      std::string(name(row.config.strategy)),
      narrow ? short_sharding_text(row.config) : sharding_text(row.config),
      // Weights of several types have a line of their own below the rows.
      (shape.weights ? "mixed " : "") + precision_text(shape.weight_dtype, shape.kv_dtype),
      fmt::format("{:.3f}", ttl_us / 1e3), known_within(row), figure_text(tokens_per_s_user(row)),
      figure_text(tokens_per_s_gpu(row)), figure_text(row.usd_per_mtok.value_or(0)),
      figure_text(row.joules_per_token.value_or(0)),
      both ? percent(row.prediction->roofline_ttl_us / row.measurement->ttl_us) : "",
      both ? fmt::format("{:+.1f} %", 100.0 * (row.prediction->model_ttl_us / row.measurement->ttl_us - 1.0))
           : "",
      row.prediction ? std::string(name(row.prediction->bound)) : "", row.reason};
}

/// What weights of several types consist of: a line for each model that has them.
std::string mixed_weights(const std::vector<const ResultRow*>& rows) {
  std::set<std::string> lines;
  for (const ResultRow* row : rows) {
    if (!row->config.shape.weights) continue;
    lines.insert(fmt::format("mixed {} of {}: {} (from {})\n", name(row->config.shape.weight_dtype),
                             row->config.model, row->config.precision, row->config.precision_source));
  }
  return fmt::format("{}", fmt::join(lines, ""));
}

/// A reason without its numbers: rows that differ in these alone have one reason.
std::string kind_of(const ResultRow& row) {
  std::string kind(name(row.status));
  for (const char c : row.reason) {
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) kind += c;
  }
  return kind;
}

/// A line for each reason, with how many rows have it and one of them.
std::string reasons(const std::vector<const ResultRow*>& rows) {
  std::vector<std::pair<std::string, std::vector<const ResultRow*>>> kinds;
  for (const ResultRow* row : rows) {
    const std::string kind = kind_of(*row);
    auto found = std::ranges::find(kinds, kind, [](const auto& entry) { return entry.first; });
    if (found == kinds.end()) found = kinds.insert(kinds.end(), {kind, {}});
    found->second.push_back(row);
  }
  std::string text;
  for (const auto& [kind, alike] : kinds) {
    const ResultRow& first = *alike.front();
    text += alike.size() == 1 ? fmt::format("{} {}: {}\n", name(first.status), first.id, first.reason)
                              : fmt::format("{} {} rows, such as {}: {}\n", name(first.status), alike.size(),
                                            first.id, first.reason);
  }
  return text;
}

}  // namespace

std::string format_table(std::span<const ResultRow> rows, std::optional<std::size_t> width) {
  std::vector<const ResultRow*> ok, rest;
  for (const ResultRow& row : rows) (is_timed(row.status) ? ok : rest).push_back(&row);
  std::ranges::stable_sort(ok, {}, [](const ResultRow* row) {
    return std::tuple(row->config.model, row->config.shape.context, row->config.shape.batch,
                      -tokens_per_s_user(*row));
  });
  const bool narrow = width && *width < 130;
  TextTable table(columns);
  // A measured run has one system, whose name depends on the number of ranks that were calibrated.
  const bool several = std::ranges::any_of(
      ok, [&](const ResultRow* row) { return !row->sampled() && row->system != ok.front()->system; });
  for (const ResultRow* row : ok) table.add(cells(*row, several ? row->system : "", narrow));
  std::string text = narrow && !ok.empty() ? wrapped(std::string(sharding_legend), width) + "\n" : "";
  return text + table.text(width) + mixed_weights(ok) + reasons(rest);
}

nlohmann::ordered_json row_to_json(const ResultRow& row) {
  const CsvRecord header = result_header(), record = to_record(row);
  nlohmann::ordered_json object;
  for (std::size_t i = 0; i < header.size(); ++i) {
    object[header[i]] = nullptr;
    if (record[i].empty()) continue;
    const auto parsed = nlohmann::ordered_json::parse(record[i], nullptr, false);
    object[header[i]] = parsed.is_number() ? parsed : nlohmann::ordered_json(record[i]);
  }
  return object;
}

std::string format_json(std::span<const ResultRow> rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const ResultRow& row : rows) all.push_back(row_to_json(row));
  return all.dump(2) + "\n";
}

std::string format_json_line(const ResultRow& row) {
  nlohmann::ordered_json object = row_to_json(row);
  object["pareto"] = nullptr;
  return object.dump() + "\n";
}

std::string format_json_lines(std::span<const ResultRow> rows) {
  std::string text;
  for (const ResultRow& row : rows) text += row_to_json(row).dump() + "\n";
  return text;
}

std::string format_csv(std::span<const ResultRow> rows) {
  std::string text = csv_line(result_header());
  for (const ResultRow& row : rows) text += csv_line(to_record(row));
  return text;
}

std::vector<ResultRow> rows_to_print(std::span<const ResultRow> rows, OutputFormat format) {
  const bool budget =
      std::ranges::any_of(rows, [](const ResultRow& r) { return r.meets_budget.has_value(); });
  std::vector<ResultRow> printed;
  for (const ResultRow& row : rows) {
    const bool within = is_timed(row.status) && row.within_budget();
    const bool explains = format == OutputFormat::table && !is_timed(row.status) && row.within_budget();
    if (!budget || within || explains) printed.push_back(row);
  }
  return printed;
}

std::string budget_text(std::span<const ResultRow> rows, double budget_ms) {
  const auto meeting = std::ranges::count_if(
      rows, [](const ResultRow& row) { return is_timed(row.status) && row.meets_budget == true; });
  return fmt::format("{} of {} rows meet the budget of {:g} ms a token; the others stand in results.csv.\n",
                     meeting, rows.size(), budget_ms);
}

std::string left_out_text(const ModelTable& models) {
  std::string text;
  for (const auto& [model_name, model] : models) {
    if (!model.left_out.empty())
      text += fmt::format("Not counted of {}{}: {}.\n", model_name,
                          model.draft_layers > 0 ? " without drafts" : "", fmt::join(model.left_out, ", "));
  }
  return text;
}

std::string format_rows(std::span<const ResultRow> rows, OutputFormat format) {
  switch (format) {
    case OutputFormat::table:
      return format_table(rows, terminal_width());
    case OutputFormat::json:
      return format_json(rows);
    case OutputFormat::csv:
      return format_csv(rows);
    case OutputFormat::json_lines:
      return format_json_lines(rows);
  }
  return "";
}

}  // namespace helix
