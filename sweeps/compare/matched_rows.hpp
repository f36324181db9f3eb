// Two sides of run directories, row by row.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/results/stored_run.hpp"

namespace helix {

/// A configuration on one side: its row in each run that has it. The rows are those of the runs, which have
/// to outlive it.
struct SideRow {
  std::vector<const StoredRow*> of_run;
  std::size_t runs = 0;  // of the side

  /// wrong in any run, else failed in any, else skipped in any, else ok; nothing: not in all runs.
  std::optional<Status> status() const;
  /// The first row with this status, or null.
  const StoredRow* find(Status status) const;
  std::size_t samples() const;
};

struct MatchedRow {
  std::string id;
  SideRow base, head;
};

/// Every configuration of either side, in the order of the files.
std::vector<MatchedRow> match_rows(const std::vector<StoredRun>& base, const std::vector<StoredRun>& head);

/// Throws UsageError if the sides have no model or no configuration in common or, where that matters, are not
/// of the same machine, backend and launch.
void require_comparable(const std::vector<StoredRun>& base, const std::vector<StoredRun>& head,
                        bool same_machine);

}  // namespace helix
