// Run directories read back: what the commands that look at runs, and sweep --resume, know of their files.
// Damage is a UsageError that names the file and the line, never rows that are missing without a word.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "sweeps/common/csv_table.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// A line of crossover.csv: which strategy is fastest for a context and batch on so many ranks.
struct CrossoverField {
  std::string system;  // empty in files of older versions, and of what was measured
  std::string model;
  std::int64_t context = 0, batch = 0;
  int ranks = 0, draft_tokens = 0;
  DType weight_dtype = DType::bf16, kv_dtype = DType::bf16;
  Strategy winner = Strategy::helix;
  Sharding sharding;                  // of the winner
  double ttl_us = 0;                  // of a token
  std::optional<Strategy> runner_up;  // nothing: no other strategy has a row there
  double gain = 1;                    // TTL of the runner-up / TTL of the winner
  bool tie = false;                   // there is one, and the gain is within the noise
};

struct Run {
  std::filesystem::path directory;
  std::string name;  // the directory's
  std::vector<ResultRow> rows;
  /// Of every configuration that was predicted, not only of the rows kept; empty if the run measured.
  std::vector<CrossoverField> crossover;
  nlohmann::ordered_json provenance;  // run.json

  bool measured() const;
};

/// Columns are found by their names, so files of other versions are read as far as they have what is needed.
/// Frontier marks are made anew, since an interrupted run has none. Throws UsageError: no run directory, a
/// column is missing or malformed, an ok row without a time, a torn row, a row measured twice, no row at all.
Run read_run(const std::filesystem::path& directory);

/// The steps of each row of a run's samples.csv, in us, by the row's id. Throws UsageError: damaged.
std::map<std::string, std::vector<double>> read_samples(const std::filesystem::path& path);

/// The run.json of a run. Throws UsageError: unreadable, malformed, or no object.
nlohmann::ordered_json read_run_json(const std::filesystem::path& path);

/// Calls visit(row) for each row of a results.csv; one that is torn ends it, and is left to the caller.
/// Throws UsageError: a column is missing or malformed, a row that was measured twice.
void for_each_row(CsvTable& table, const std::function<void(ResultRow&&)>& visit);

}  // namespace helix
