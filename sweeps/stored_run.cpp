#include "sweeps/stored_run.hpp"

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "roofline/error.hpp"
#include "sweeps/csv_table.hpp"

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

std::vector<StoredRow> read_rows(const fs::path& path) {
  const CsvTable table(path);
  std::vector<StoredRow> rows;
  std::set<std::string> ids;
  for (std::size_t i = 0; i < table.size(); ++i) {
    const std::string &id = table.text(i, "id"), &status = table.text(i, "status");
    if (!ids.insert(id).second) table.fail(i, fmt::format("a second row '{}'", id));
    if (status != "ok" && status != "skipped" && status != "failed") {
      table.fail(i, fmt::format("status '{}'; valid: ok, skipped, failed", status));
    }
    const bool predicted = !table.text(i, "roofline_ttl_us").empty();
    rows.push_back({.id = id,
                    .status = status,
                    .reason = table.text(i, "reason"),
                    .model = table.text(i, "model"),
                    .roofline_ttl_us = predicted ? table.positive(i, "roofline_ttl_us") : 0.0,
                    .samples_us = {}});
  }
  return rows;
}

void read_samples(const fs::path& path, std::vector<StoredRow>& rows) {
  const CsvTable table(path);
  std::map<std::string, std::vector<double>> samples;
  for (std::size_t i = 0; i < table.size(); ++i) {
    samples[table.text(i, "id")].push_back(table.positive(i, "ttl_us"));
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
