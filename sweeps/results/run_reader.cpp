#include "sweeps/results/run_reader.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/json_fields.hpp"
#include "roofline/base/text_file.hpp"
#include "sweeps/common/files.hpp"
#include "sweeps/results/frontier.hpp"
#include "sweeps/results/result_columns.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

/// Without these a row says nothing; the others of a results.csv may be missing.
constexpr std::array needed_columns = {"id",           "status",   "strategy", "model",  "kvp",         "tpa",
                                       "tpf",          "ep",       "context",  "batch",  "pp",          "dp",
                                       "weight_dtype", "kv_dtype", "hop_b",    "ttl_us", "model_ttl_us"};

void check_times(const CsvTable& table, const ResultRow& row) {
  const auto sound = [](double ttl_us) { return std::isfinite(ttl_us) && ttl_us > 0; };
  if (row.measurement && !sound(row.measurement->ttl_us)) table.fail("ttl_us is no time");
  if (row.share && !sound(row.share->compute.ttl_us)) table.fail("rank_compute_us is no time");
  if (row.prediction && !sound(row.prediction->model_ttl_us)) table.fail("model_ttl_us is no time");
  if (row.status == Status::ok && !row.measurement && !row.prediction) {
    table.fail("an ok row without ttl_us and model_ttl_us");
  }
  if (row.status == Status::one_rank && !row.share) table.fail("a row of one rank without rank_compute_us");
}

/// What tokens/s are derived from and what divides: a file may hold anything.
void check_shape(const CsvTable& table) {
  for (const char* column : {"kvp", "tpa", "tpf", "ep", "pp", "dp"}) table.width(column);
  table.count("context", context_tokens);
  table.count("batch", batch_requests);
}

std::vector<ResultRow> read_rows(const fs::path& path) {
  CsvTable table(path);
  std::vector<ResultRow> rows;
  for_each_row(table, [&](ResultRow&& row) { rows.push_back(std::move(row)); });
  table.refuse_torn();
  if (rows.empty()) throw UsageError(fmt::format("'{}' has no rows", path.string()));
  mark_pareto(rows);
  return rows;
}

std::vector<CrossoverField> read_crossover(const fs::path& path) {
  if (!fs::exists(path)) return {};
  CsvTable table(path);
  std::vector<CrossoverField> fields;
  while (table.next()) {
    CrossoverField& field = fields.emplace_back();
    if (table.has("system")) field.system = table.text("system");
    field.model = table.text("model");
    field.context = table.count("context", context_tokens);
    field.batch = table.count("batch", batch_requests);
    field.ranks = table.width("ranks");
    if (table.has("draft_tokens"))
      field.draft_tokens = static_cast<int>(table.count("draft_tokens", drafted_tokens));
    try {
      field.weight_dtype = parse_dtype(table.text("weight_dtype"));
      field.kv_dtype = parse_dtype(table.text("kv_dtype"));
      field.winner = parse_strategy(table.text("winner"));
      if (!table.text("runner_up").empty()) field.runner_up = parse_strategy(table.text("runner_up"));
    } catch (const UsageError& error) {
      table.fail(error.what());
    }
    field.sharding = {.kvp = table.width("kvp"),
                      .tpa = table.width("tpa"),
                      .tpf = table.width("tpf"),
                      .ep = table.width("ep"),
                      .pp = table.width("pp"),
                      .dp = table.width("dp")};
    field.ttl_us = table.positive("ttl_us");
    if (field.runner_up) {
      field.gain = table.positive("gain");
      field.tie = field.gain < 1.005;  // a prediction has no more digits
    }
  }
  table.refuse_torn();
  return fields;
}

}  // namespace

bool Run::measured() const {
  return std::ranges::any_of(rows, [](const ResultRow& row) { return row.sampled() != nullptr; });
}

nlohmann::ordered_json read_run_json(const fs::path& path) {
  require_readable(path);
  nlohmann::ordered_json run = parse_ordered_json(read_text_file(path.string(), "run.json"), path.string());
  if (!run.is_object()) throw UsageError(fmt::format("'{}' is not the run.json of a run", path.string()));
  return run;
}

void for_each_row(CsvTable& table, const std::function<void(ResultRow&&)>& visit) {
  for (const char* column : needed_columns) table.require(column);
  std::vector<std::size_t> positions;
  for (const std::string& column : result_header()) positions.push_back(table.position(column));
  std::unordered_map<std::string, std::size_t> lines;  // of the rows that were measured, by id
  CsvRecord record(positions.size());
  while (table.next()) {
    for (std::size_t i = 0; i < record.size(); ++i) {
      if (positions[i] < table.row().size()) record[i] = table.row()[positions[i]];
    }
    check_shape(table);
    ResultRow row;
    try {
      row = from_record(record);
    } catch (const UsageError& error) {
      table.fail(error.what());
    }
    check_times(table, row);
    // Blocks of a predicted sweep may overlap.
    if (row.backend != "model") {
      const auto [first, is_new] = lines.try_emplace(row.id, table.line());
      if (!is_new) {
        table.fail(fmt::format("a second row '{}'; the first is in line {}", excerpt(row.id), first->second));
      }
    }
    visit(std::move(row));
  }
}

std::map<std::string, std::vector<double>> read_samples(const fs::path& path) {
  CsvTable table(path);
  for (const char* column : {"id", "sample", "ttl_us"}) table.require(column);
  std::map<std::string, std::vector<double>> samples;
  std::map<std::string, std::int64_t> last;  // sample of each row
  while (table.next()) {
    const std::string& id = table.text("id");
    const std::int64_t sample = table.count("sample", {0, std::int64_t{1} << 40});
    const auto [before, is_first] = last.try_emplace(id, sample);
    if (!is_first && sample <= before->second) {
      table.fail(fmt::format("sample {} of the row '{}' follows its sample {}", sample, excerpt(id),
                             before->second));
    }
    before->second = sample;
    samples[id].push_back(table.positive("ttl_us"));
  }
  table.refuse_torn();
  return samples;
}

Run read_run(const fs::path& directory) {
  std::error_code error;
  for (const char* file : {"run.json", "results.csv"}) {
    if (fs::exists(directory / file, error)) continue;
    throw UsageError(
        fmt::format("'{}' is missing, so '{}' is no run directory; valid: a directory that sweep or predict "
                    "wrote, with results.csv and run.json",
                    (directory / file).string(), directory.string()));
  }
  const fs::path absolute = fs::absolute(directory).lexically_normal();
  return {.directory = directory,
          .name = (absolute.has_filename() ? absolute : absolute.parent_path()).filename().string(),
          .rows = read_rows(directory / "results.csv"),
          .crossover = read_crossover(directory / "crossover.csv"),
          .provenance = read_run_json(directory / "run.json")};
}

}  // namespace helix
