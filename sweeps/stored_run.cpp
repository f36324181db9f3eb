#include "sweeps/stored_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "roofline/error.hpp"
#include "sweeps/csv.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int known_schema = 1;

/// Where run.json keeps what makes two runs' times comparable. The kernel path is none of them: it is part of
/// what a change may change.
constexpr std::string_view machine_facts[] = {"/host/name", "/host/cpu",  "/host/cores_online",   "/device",
                                              "/backend",   "/mpi/ranks", "/mpi/threads_per_rank"};

std::ifstream open_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file || fs::is_directory(path)) {
    throw UsageError(fmt::format(
        "'{}' cannot be read; valid: the files of a run directory that `sweep` wrote", path.string()));
  }
  return file;
}

json read_provenance(const fs::path& path) {
  std::ifstream file = open_file(path);
  const json run = json::parse(file, nullptr, false);
  if (!run.is_object() || !run.contains("schema_version")) {
    throw UsageError(fmt::format("'{}' is not the run.json of a run", path.string()));
  }
  if (run["schema_version"] != known_schema) {
    throw UsageError(fmt::format("'{}' has schema_version {}; this version reads {}", path.string(),
                                 run["schema_version"].dump(), known_schema));
  }
  return run;
}

std::string fact(const json& run, std::string_view pointer) {
  const json::json_pointer where{std::string(pointer)};
  if (!run.contains(where) || run.at(where).is_null()) return "none";
  const json& value = run.at(where);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

/// A CSV file whose columns are asked for by name.
class NamedColumns {
 public:
  explicit NamedColumns(const fs::path& path) : path_(path) {
    std::ifstream file = open_file(path);
    records_ = read_csv(file);
    if (records_.empty()) throw UsageError(fmt::format("'{}' is empty", path.string()));
    header_ = std::move(records_.front());
    records_.erase(records_.begin());
    for (const CsvRecord& record : records_) {
      if (record.size() != header_.size()) {
        throw UsageError(fmt::format("'{}' is damaged: row '{}' has {} columns instead of {}", path.string(),
                                     record.front(), record.size(), header_.size()));
      }
    }
  }

  const std::vector<CsvRecord>& records() const { return records_; }
  std::size_t column(std::string_view name) const {
    const auto found = std::ranges::find(header_, name);
    if (found == header_.end())
      throw UsageError(fmt::format("'{}' has no column '{}'", path_.string(), name));
    return static_cast<std::size_t>(found - header_.begin());
  }
  double positive(const CsvRecord& record, std::size_t column) const {
    const std::string& text = record[column];
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || !std::isfinite(value) || value <= 0) {
      throw UsageError(fmt::format("'{}' is damaged: row '{}', column {}: '{}' is not a positive number",
                                   path_.string(), record.front(), header_[column], text));
    }
    return value;
  }

 private:
  fs::path path_;
  CsvRecord header_;
  std::vector<CsvRecord> records_;
};

std::vector<StoredRow> read_rows(const fs::path& path) {
  const NamedColumns table(path);
  const std::size_t id = table.column("id"), status = table.column("status"), reason = table.column("reason"),
                    model = table.column("model"), roofline = table.column("roofline_ttl_us");
  std::vector<StoredRow> rows;
  std::set<std::string_view> ids;
  for (const CsvRecord& record : table.records()) {
    if (!ids.insert(record[id]).second) {
      throw UsageError(fmt::format("'{}' is damaged: two rows '{}'", path.string(), record[id]));
    }
    if (record[status] != "ok" && record[status] != "skipped" && record[status] != "failed") {
      throw UsageError(
          fmt::format("'{}' is damaged: row '{}' has the status '{}'; valid: ok, skipped, failed",
                      path.string(), record[id], record[status]));
    }
    rows.push_back({.id = record[id],
                    .status = record[status],
                    .reason = record[reason],
                    .model = record[model],
                    .roofline_ttl_us = record[roofline].empty() ? 0.0 : table.positive(record, roofline),
                    .samples_us = {}});
  }
  return rows;
}

void read_samples(const fs::path& path, std::vector<StoredRow>& rows) {
  const NamedColumns table(path);
  const std::size_t id = table.column("id"), ttl = table.column("ttl_us");
  std::map<std::string, std::vector<double>> samples;
  for (const CsvRecord& record : table.records()) {
    samples[record[id]].push_back(table.positive(record, ttl));
  }
  for (StoredRow& row : rows) {
    if (row.status != "ok") continue;
    row.samples_us = std::move(samples[row.id]);
    if (row.samples_us.empty()) {
      throw UsageError(fmt::format("'{}' has no samples of the row '{}'", path.string(), row.id));
    }
  }
}

}  // namespace

StoredRun read_stored_run(const fs::path& directory) {
  if (!fs::is_directory(directory)) {
    throw UsageError(fmt::format("'{}' is not a directory; valid: a run directory that `sweep` wrote",
                                 directory.string()));
  }
  const json provenance = read_provenance(directory / "run.json");
  StoredRun run{.directory = directory,
                .commit = fact(provenance, "/commit"),
                .complete = fact(provenance, "/complete") == "true",
                .machine = {},
                .rows = {}};
  for (const std::string_view pointer : machine_facts) {
    run.machine.push_back({std::string(pointer.substr(1)), fact(provenance, pointer)});
  }
  if (fact(provenance, "/backend") == "model") {
    throw UsageError(fmt::format("'{}' is a prediction, without measured times; valid: runs of `sweep`",
                                 directory.string()));
  }
  run.rows = read_rows(directory / "results.csv");
  if (run.rows.empty()) throw UsageError(fmt::format("'{}' has no rows", directory.string()));
  read_samples(directory / "samples.csv", run.rows);
  return run;
}

}  // namespace helix
