#include "sweeps/table.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <tuple>

#include "sweeps/result_columns.hpp"
#include "sweeps/row_text.hpp"

namespace helix {
namespace {

std::string percent(double fraction) {
  return fmt::format("{:.1f} %", 100.0 * fraction);
}

using Cells = std::vector<std::string>;

Cells cells(const ResultRow& row) {
  const DecodeShape& shape = row.config.shape;
  const bool both = row.measurement && row.prediction;
  const double ttl_us = row.measurement  ? row.measurement->ttl_us
                        : row.prediction ? row.prediction->model_ttl_us
                                         : 0.0;
  return {
      row.pareto ? "*" : "",
      row.config.model,
      token_text(shape.context),
      fmt::format("{}", shape.batch),
      std::string(name(row.config.strategy)),
      sharding_text(row.config),
      precision_text(shape.weight_dtype, shape.kv_dtype),
      fmt::format("{:.3f}", ttl_us / 1e3),
      fmt::format("{:.4g}", tokens_per_s_user(row)),
      fmt::format("{:.4g}", tokens_per_s_gpu(row)),
      both ? percent(row.prediction->roofline_ttl_us / row.measurement->ttl_us) : "",
      both ? fmt::format("{:+.1f} %", 100.0 * (row.prediction->model_ttl_us / row.measurement->ttl_us - 1.0))
           : "",
      row.prediction ? std::string(name(row.prediction->bound)) : "",
      row.reason};
}

const Cells head = {"",       "model",      "context",   "batch",    "strategy",  "sharding", "weights/KV",
                    "TTL ms", "tok/s/user", "tok/s/GPU", "roofline", "model err", "bound",    "note"};
constexpr std::array right_aligned = {false, false, true, true, false, false, false,
                                      true,  true,  true, true, true,  false, false};

}  // namespace

namespace {

nlohmann::ordered_json json_of(const ResultRow& row) {
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

}  // namespace

std::string format_table(std::span<const ResultRow> rows) {
  std::vector<const ResultRow*> ok, rest;
  for (const ResultRow& row : rows) (row.status == Status::ok ? ok : rest).push_back(&row);
  std::ranges::stable_sort(ok, {}, [](const ResultRow* row) {
    return std::tuple(row->config.model, row->config.shape.context, row->config.shape.batch,
                      -tokens_per_s_user(*row));
  });
  std::vector<Cells> lines{head};
  for (const ResultRow* row : ok) lines.push_back(cells(*row));

  std::vector<std::size_t> width(head.size(), 0);
  for (const Cells& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) width[i] = std::max(width[i], line[i].size());
  }
  std::string text;
  for (const Cells& line : lines) {
    std::string row;
    for (std::size_t i = 0; i < line.size(); ++i) {
      row += right_aligned[i] ? fmt::format("{:>{}}  ", line[i], width[i])
                              : fmt::format("{:<{}}  ", line[i], width[i]);
    }
    row.erase(row.find_last_not_of(' ') + 1);
    text += row + '\n';
  }
  for (const ResultRow* row : rest)
    text += fmt::format("{} {}: {}\n", name(row->status), row->id, row->reason);
  return text;
}

std::string format_json(std::span<const ResultRow> rows) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const ResultRow& row : rows) all.push_back(json_of(row));
  return all.dump(2) + "\n";
}

std::string format_json_line(const ResultRow& row) {
  nlohmann::ordered_json object = json_of(row);
  object["pareto"] = nullptr;
  return object.dump() + "\n";
}

std::string format_json_lines(std::span<const ResultRow> rows) {
  std::string text;
  for (const ResultRow& row : rows) text += json_of(row).dump() + "\n";
  return text;
}

std::string format_csv(std::span<const ResultRow> rows) {
  std::string text = csv_line(result_header());
  for (const ResultRow& row : rows) text += csv_line(to_record(row));
  return text;
}

std::string format_rows(std::span<const ResultRow> rows, OutputFormat format) {
  switch (format) {
    case OutputFormat::table:
      return format_table(rows);
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
