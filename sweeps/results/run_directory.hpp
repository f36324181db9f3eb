// The run directory: results.csv, samples.csv and run.json while a sweep runs, pareto.csv when it is done.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "roofline/base/csv.hpp"
#include "sweeps/common/csv_table.hpp"
#include "sweeps/common/files.hpp"
#include "sweeps/results/result_row.hpp"
#include "sweeps/results/run_place.hpp"

namespace helix {

/// The directory of a run is no longer where it was while the run goes on, or somebody else has
/// changed its files.
struct LostRun : std::runtime_error {
  LostRun(const std::string& message, std::string results)
      : std::runtime_error(message), results_csv(std::move(results)) {}
  std::string results_csv;  // of all rows so far, which would be lost otherwise
};

class RunDirectory {
 public:
  /// Creates the directory; an empty path means a new results/<UTC time>-<host>-<pid>, to which the
  /// link results/latest then points. A directory that holds anything is refused unless `resume`, which
  /// then reads its finished rows back and drops what a kill left of the row in flight. Throws
  /// UsageError: not empty, not writable, disk full, in use by another process, not a run directory of
  /// this version, damaged otherwise.
  RunDirectory(const std::filesystem::path& requested, bool resume);

  const std::filesystem::path& path() const { return path_; }
  /// Rows that earlier runs finished, in the order of the file, and those appended since.
  const std::vector<ResultRow>& rows() const { return rows_; }
  bool holds(const std::string& id) const { return ids_.contains(id); }
  /// The row of this id, which it holds.
  const ResultRow& row(const std::string& id) const;
  /// What resuming dropped, a line each: file, line and what.
  const std::vector<std::string>& mended() const { return mended_; }

  /// Throws LostRun if the directory or a file in it was removed, replaced or changed by somebody else.
  void require_in_place() const;
  /// Appends a row and its samples: on disk when it returns. If writing fails, the files are as they were.
  /// Throws LostRun, too.
  void append(const ResultRow& row);

  /// The run.json of the run that is continued, null if there is none.
  const nlohmann::ordered_json& earlier_run() const { return run_; }

  /// Writes run.json with the start's provenance. On resuming, start time and command line of the first run
  /// stay, "resumed" counts the continuations, and "parts" has the provenance of each part, the first one
  /// included, with the number of its first row in results.csv (from 0) and how many rows it wrote.
  void begin(const nlohmann::ordered_json& run);
  /// Writes the end of a run that is broken off: run.json says so, rows stay as they are for --resume.
  void break_off(const nlohmann::ordered_json& end);
  /// Marks the Pareto frontier, rewrites results.csv with it, writes pareto.csv and run.json's end.
  void finish(const nlohmann::ordered_json& end);

 private:
  void read_back();
  /// The text of a samples.csv without those of a row that was not finished.
  std::string whole_rows(CsvTable& samples);
  void end_part(const nlohmann::ordered_json& end);
  void save_run() const;

  std::filesystem::path path_;
  std::optional<DirectoryLock> lock_;
  std::vector<ResultRow> rows_;
  std::vector<CsvRecord> records_;
  std::set<std::string> ids_;
  std::vector<std::string> mended_;
  FileIdentity identity_;
  std::optional<AppendedFile> results_, samples_;
  nlohmann::ordered_json run_;  // of the earlier run until begin()
};

}  // namespace helix
