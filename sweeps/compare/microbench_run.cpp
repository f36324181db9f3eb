#include "sweeps/compare/microbench_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string_view>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uintmax_t most_bytes = 256u << 20;

/// What repetitions are comparable for.
constexpr const char* machine_facts[] = {"host_name", "num_cpus"};

json read_json(const fs::path& path) {
  std::error_code error;
  std::ifstream file(path, std::ios::binary);
  if (!file || !fs::is_regular_file(path, error)) {
    throw UsageError(
        fmt::format("'{}' cannot be read; valid: what helix-microbench writes with "
                    "--benchmark_out=FILE.json",
                    path.string()));
  }
  if (fs::file_size(path, error) > most_bytes) {
    throw UsageError(fmt::format("'{}' has more than {} MiB", path.string(), most_bytes >> 20));
  }
  // The file is a list of flat objects: deeper is no such file, and could exhaust the stack.
  constexpr int deepest = 16;
  const auto keep = [](int depth, json::parse_event_t, json&) {
    if (depth > deepest) throw UsageError("");
    return true;
  };
  json all;
  try {
    all = json::parse(file, keep, false);
  } catch (const UsageError&) {
  }
  if (!all.is_object() || !all.contains("benchmarks") || !all["benchmarks"].is_array()) {
    throw UsageError(
        fmt::format("'{}' is no JSON of Google Benchmark; valid: what helix-microbench writes "
                    "with --benchmark_out=FILE.json",
                    path.string()));
  }
  return all;
}

std::string text(const json& object, const char* key) {
  return object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : std::string{};
}

double us_of(const std::string& unit) {
  static const std::map<std::string_view, double> units = {
      {"", 1e-3}, {"ns", 1e-3}, {"us", 1}, {"ms", 1e3}, {"s", 1e6}};
  const auto found = units.find(unit);
  return found == units.end() ? NAN : found->second;
}

}  // namespace

StoredRun read_microbench_run(const fs::path& path) {
  const json all = read_json(path);
  StoredRun run{.directory = path, .commit = "none", .complete = true, .machine = {}, .rows = {}};
  const json context = all.value("context", json::object());
  for (const char* name : machine_facts) {
    const bool known = context.is_object() && context.contains(name);
    run.machine.push_back({name, known ? context[name].dump() : "none"});
  }
  std::map<std::string, std::size_t> where;
  std::size_t number = 0;
  for (const json& entry : all["benchmarks"]) {
    ++number;
    const auto fail = [&](const std::string& what) {
      throw UsageError(fmt::format("'{}': benchmark {}: {}", path.string(), number, what));
    };
    if (!entry.is_object()) fail("is no object");
    if (text(entry, "run_type") == "aggregate") continue;
    const std::string name = text(entry, "run_name").empty() ? text(entry, "name") : text(entry, "run_name");
    if (name.empty()) fail("has no name");
    const auto [at, is_new] = where.try_emplace(name, run.rows.size());
    if (is_new) {
      run.rows.push_back({.id = name,
                          .status = Status::ok,
                          .reason = {},
                          .model = "micro-benchmarks",
                          .roofline_ttl_us = 0,
                          .samples_us = {}});
    }
    StoredRow& row = run.rows[at->second];
    const bool error = entry.contains("error_occurred") && entry["error_occurred"] == true;
    const bool skipped = entry.contains("skipped") && entry["skipped"] == true;
    if (error || skipped) {
      row.status = error ? Status::failed : Status::skipped;
      row.reason = text(entry, error ? "error_message" : "skip_message");
      continue;
    }
    const bool timed = entry.contains("real_time") && entry["real_time"].is_number();
    const double us = timed ? entry["real_time"].get<double>() * us_of(text(entry, "time_unit")) : NAN;
    if (!std::isfinite(us) || us <= 0) fail(fmt::format("'{}' has no real_time that is a time", name));
    row.samples_us.push_back(us);
  }
  if (run.rows.empty()) {
    throw UsageError(
        fmt::format("'{}' has no repetitions of a benchmark (only aggregates?); valid: without "
                    "--benchmark_report_aggregates_only",
                    path.string()));
  }
  for (StoredRow& row : run.rows) {
    if (row.status != Status::ok) row.samples_us.clear();
  }
  return run;
}

}  // namespace helix
