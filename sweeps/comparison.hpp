// The verdict on two sides of run directories, BASE and NEW: rows matched by configuration, and which of them
// became slower.
//
// One run a side: a row has moved if a Mann-Whitney U test on its samples says so, Holm-corrected over the
// rows (rank_test.hpp), and its median moved by more than the threshold and the floor. Several runs on a
// side: the same with the permutation test over runs (run_permutation.hpp) and the mean over runs of log
// medians.
//
// alpha counts both directions, so comparisons of one program with itself raise a false alarm in at most
// alpha / 2 of all cases, and in far fewer where medians are known better than the threshold. For that the
// units of the test have to be exchangeable: with one run a side its samples, which they are not where whole
// runs have modes (no test on two runs can tell a mode from a change); with several the runs.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "sweeps/stored_run.hpp"

namespace helix {

struct ComparisonLimits {
  double threshold = 0.03;  // relative movement of the median that matters
  double floor_us = 5;      // absolute one; less is a launch or a barrier
  double alpha = 0.02;      // chance of a movement that is none, in any row and either direction
  /// Compare times as multiples of each run's own roofline: for runs of different machines.
  bool roofline_fractions = false;
};

/// In the order in which they are listed.
enum class Verdict { failing, regressed, improved, newly_skipped, unmatched, too_few_samples, unchanged };

/// As in machine-readable outputs: "newly_skipped".
std::string_view name(Verdict verdict);

struct ComparedRow {
  std::string id;
  Verdict verdict = Verdict::unchanged;
  std::string reason;
  /// Median times in us or, of roofline fractions, the fractions; of several runs the geometric mean.
  std::optional<double> base, head;
  std::optional<double> change;   // time of NEW / time of BASE - 1, positive: slower
  std::optional<double> p_value;  // corrected for the number of rows
  std::size_t base_samples = 0, head_samples = 0;
};

struct ComparedSide {
  std::vector<std::string> directories;
  std::string commit;
};

struct Comparison {
  ComparisonLimits limits;
  ComparedSide base, head;
  std::vector<std::string> notes;  // what a reader has to know besides the rows
  std::vector<ComparedRow> rows;   // by verdict, then in the order of the files

  std::size_t count(Verdict verdict) const;
  /// A row became slower, or is or became wrong.
  bool failed() const;
};

/// Throws UsageError if the runs cannot be compared: another machine, backend or launch (unless roofline
/// fractions are compared), no model or no configuration in common.
Comparison compare_runs(const std::vector<StoredRun>& base, const std::vector<StoredRun>& head,
                        const ComparisonLimits& limits);

}  // namespace helix
