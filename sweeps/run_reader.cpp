#include "sweeps/run_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "roofline/error.hpp"
#include "sweeps/csv_table.hpp"
#include "sweeps/result_columns.hpp"
#include "sweeps/results.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

/// Without these a row says nothing; the others of a results.csv may be missing.
constexpr std::array needed_columns = {"id",           "status",   "strategy", "model",  "kvp",         "tpa",
                                       "tpf",          "ep",       "context",  "batch",  "pp",          "dp",
                                       "weight_dtype", "kv_dtype", "hop_b",    "ttl_us", "model_ttl_us"};

void check_times(const CsvTable& table, std::size_t record, const ResultRow& row) {
  const auto sound = [](double ttl_us) { return std::isfinite(ttl_us) && ttl_us > 0; };
  if (row.measurement && !sound(row.measurement->ttl_us)) table.fail(record, "ttl_us is no time");
  if (row.prediction && !sound(row.prediction->model_ttl_us)) table.fail(record, "model_ttl_us is no time");
  if (row.status == Status::ok && !row.measurement && !row.prediction) {
    table.fail(record, "an ok row without ttl_us and model_ttl_us");
  }
}

/// What tokens/s are derived from and what divides: a file may hold anything.
void check_shape(const CsvTable& table, std::size_t record) {
  for (const char* column : {"kvp", "tpa", "tpf", "ep", "pp", "dp"}) table.width(record, column);
  table.count(record, "context", context_tokens);
  table.count(record, "batch", batch_requests);
}

std::vector<ResultRow> read_rows(const fs::path& path) {
  const CsvTable table(path);
  for (const char* column : needed_columns) table.require(column);
  std::vector<ResultRow> rows;
  const CsvRecord header = result_header();
  for (std::size_t i = 0; i < table.size(); ++i) {
    CsvRecord record;
    for (const std::string& column : header) {
      record.push_back(table.has(column) ? table.text(i, column) : std::string{});
    }
    check_shape(table, i);
    try {
      rows.push_back(from_record(record));
    } catch (const UsageError& error) {
      table.fail(i, error.what());
    }
    check_times(table, i, rows.back());
  }
  if (rows.empty()) throw UsageError(fmt::format("'{}' has no rows", path.string()));
  mark_pareto(rows);
  return rows;
}

std::vector<CrossoverField> read_crossover(const fs::path& path) {
  if (!fs::exists(path)) return {};
  const CsvTable table(path);
  std::vector<CrossoverField> fields;
  for (std::size_t i = 0; i < table.size(); ++i) {
    CrossoverField& field = fields.emplace_back();
    if (table.has("system")) field.system = table.text(i, "system");
    field.model = table.text(i, "model");
    field.context = table.count(i, "context", context_tokens);
    field.batch = table.count(i, "batch", batch_requests);
    field.ranks = table.width(i, "ranks");
    try {
      field.weight_dtype = parse_dtype(table.text(i, "weight_dtype"));
      field.kv_dtype = parse_dtype(table.text(i, "kv_dtype"));
      field.winner = parse_strategy(table.text(i, "winner"));
      if (!table.text(i, "runner_up").empty()) field.runner_up = parse_strategy(table.text(i, "runner_up"));
    } catch (const UsageError& error) {
      table.fail(i, error.what());
    }
    field.sharding = {.kvp = table.width(i, "kvp"),
                      .tpa = table.width(i, "tpa"),
                      .tpf = table.width(i, "tpf"),
                      .ep = table.width(i, "ep"),
                      .pp = table.width(i, "pp"),
                      .dp = table.width(i, "dp")};
    field.ttl_us = table.positive(i, "ttl_us");
    if (field.runner_up) field.gain = table.positive(i, "gain");
  }
  return fields;
}

nlohmann::ordered_json read_provenance(const fs::path& path) {
  std::ifstream file(path);
  nlohmann::ordered_json run = nlohmann::ordered_json::parse(file, nullptr, false);
  if (!run.is_object()) {
    throw UsageError(fmt::format("'{}' is not the run.json of a run", path.string()));
  }
  return run;
}

}  // namespace

bool Run::measured() const {
  return std::ranges::any_of(rows, [](const ResultRow& row) { return row.measurement.has_value(); });
}

Run read_run(const fs::path& directory) {
  std::error_code error;
  if (!fs::is_directory(directory, error) || !fs::exists(directory / "results.csv", error)) {
    throw UsageError(
        fmt::format("'{}' is no run directory; valid: a directory that sweep or predict wrote, "
                    "with results.csv and run.json",
                    directory.string()));
  }
  const fs::path absolute = fs::absolute(directory).lexically_normal();
  return {.directory = directory,
          .name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string(),
          .rows = read_rows(directory / "results.csv"),
          .crossover = read_crossover(directory / "crossover.csv"),
          .provenance = read_provenance(directory / "run.json")};
}

}  // namespace helix
