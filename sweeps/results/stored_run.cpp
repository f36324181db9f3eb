#include "sweeps/results/stored_run.hpp"

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/run_reader.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr int known_schema = 1;

/// Where run.json keeps what makes two runs' times comparable. The kernel path is none of them: it is part of
/// what a change may change.
constexpr std::string_view machine_facts[] = {"/host/name", "/host/cpu",  "/host/cores_online",   "/device",
                                              "/backend",   "/mpi/ranks", "/mpi/threads_per_rank"};

void check_schema(const ordered_json& run, const fs::path& path) {
  if (!run.contains("schema_version")) {
    throw UsageError(fmt::format("'{}' is not the run.json of a run", path.string()));
  }
  if (run["schema_version"] != known_schema) {
    throw UsageError(fmt::format("'{}' has schema_version {}; this version reads {}", path.string(),
                                 excerpt(run["schema_version"].dump()), known_schema));
  }
}

std::string fact(const ordered_json& run, std::string_view pointer) {
  const ordered_json::json_pointer where{std::string(pointer)};
  if (!run.contains(where) || run.at(where).is_null()) return "none";
  const ordered_json& value = run.at(where);
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace

StoredRun read_stored_run(const fs::path& directory) {
  Run read = read_run(directory);
  check_schema(read.provenance, directory / "run.json");
  StoredRun run{.directory = directory,
                .commit = fact(read.provenance, "/commit"),
                .complete = fact(read.provenance, "/complete") == "true",
                .machine = {},
                .rows = {}};
  for (const std::string_view pointer : machine_facts) {
    run.machine.push_back({std::string(pointer.substr(1)), fact(read.provenance, pointer)});
  }
  if (fact(read.provenance, "/backend") == "model") {
    throw UsageError(fmt::format("'{}' is a prediction, without measured times; valid: runs of `sweep`",
                                 directory.string()));
  }
  const fs::path samples_file = directory / "samples.csv";
  std::map<std::string, std::vector<double>> samples = read_samples(samples_file);
  for (ResultRow& row : read.rows) {
    StoredRow& stored = run.rows.emplace_back();
    stored.id = std::move(row.id);
    stored.status = row.status;
    stored.reason = std::move(row.reason);
    stored.model = std::move(row.config.model);
    if (row.prediction) stored.roofline_ttl_us = row.prediction->roofline_ttl_us;
    if (!is_timed(row.status)) continue;
    stored.samples_us = std::move(samples[stored.id]);
    if (stored.samples_us.empty()) {
      throw UsageError(fmt::format("'{}' has no samples of the row '{}'", samples_file.string(), stored.id));
    }
  }
  return run;
}

}  // namespace helix
