// A run directory as it lies on disk, read for comparing it with others: rows by column name, so that another
// version's additional columns do not matter, and their samples.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sweeps/results/status.hpp"

namespace helix {

struct StoredRow {
  std::string id;
  Status status = Status::ok;
  std::string reason, model;
  double roofline_ttl_us = 0;      // 0: no prediction
  std::vector<double> samples_us;  // of an ok row
};

/// A fact about the machine or the launch that times depend on.
struct RunFact {
  std::string name, value;
};

struct StoredRun {
  std::filesystem::path directory;
  std::string commit;
  bool complete = false;
  std::vector<RunFact> machine;  // the same facts in the same order for every run
  std::vector<StoredRow> rows;
};

/// Throws UsageError in one line: not a run directory, another schema, damaged, or a run
/// without measured rows.
StoredRun read_stored_run(const std::filesystem::path& directory);

}  // namespace helix
