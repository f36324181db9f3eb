// The verdict on two sides of run directories, BASE and NEW: rows matched by configuration, and which of them
// became slower.
//
// A row has moved if the statistics of one run a side (run_pair.hpp) or of several (repeated_runs.hpp) say
// so, and its median moved by more than the threshold and the floor. alpha counts both directions, so
// comparisons of one program with itself raise a false alarm in at most alpha / 2 of all cases.
//
// A comparison passes only what it could judge: rows that are missing, failed or have too few
// samples fail it.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sweeps/results/stored_run.hpp"

namespace helix {

struct ComparisonLimits {
  double threshold = 0.03;  // relative movement of the median that matters
  double floor_us = 5;      // absolute one; less is a launch or a barrier
  double alpha = 0.02;      // chance of a movement that is none, in any row and either direction
  /// What two runs of one program may differ by, where neither repeats nor other rows tell: whole runs of the
  /// shared machines that this was developed on have modes 8 % apart.
  double run_noise = 0.09;
  /// Compare times as multiples of each run's own roofline: for runs of different machines.
  bool roofline_fractions = false;
  /// Rows that cannot be judged do not fail the comparison.
  bool allow_unjudged = false;
  /// The runs are micro-benchmarks and their samples repetitions (microbench_run.hpp).
  bool microbench = false;
};

/// In the order in which they are listed. The first four fail a comparison, the next two (unmatched: NEW has
/// a row that BASE has no time of) unless rows may stay unjudged.
enum class Verdict {
  failing,
  regressed,
  missing,
  newly_skipped,
  unmatched,
  too_few_samples,
  improved,
  unchanged
};
inline constexpr std::array all_verdicts = {
    Verdict::failing,   Verdict::regressed,       Verdict::missing,  Verdict::newly_skipped,
    Verdict::unmatched, Verdict::too_few_samples, Verdict::improved, Verdict::unchanged};

constexpr bool fails(Verdict verdict) {
  return verdict <= Verdict::newly_skipped;
}
constexpr bool unjudged(Verdict verdict) {
  return verdict == Verdict::unmatched || verdict == Verdict::too_few_samples;
}

/// As in machine-readable outputs: "newly_skipped".
std::string_view name(Verdict verdict);

struct ComparedRow {
  std::string id;
  Verdict verdict = Verdict::unchanged;
  std::string reason;
  /// Median times in us or, of roofline fractions, the fractions; of several runs the geometric mean.
  std::optional<double> base, head;
  std::optional<double> change;              // time of NEW / time of BASE - 1, positive: slower
  std::optional<double> change_after_shift;  // the same beside what all rows alike moved by
  std::optional<double> detectable;          // change that would be found in 9 of 10 such comparisons
  std::optional<double> p_value;             // corrected for the number of rows
  std::size_t base_samples = 0, head_samples = 0;
};

struct ComparedSide {
  std::vector<std::string> directories;
  std::string commit;
  std::vector<std::string> incomplete;  // those of the directories whose run did not end
};

/// What all rows alike moved by, relative; whether that is more than runs differ by anyway, and counts.
struct CommonShift {
  double change = 0, detectable = 0;
  bool counts = false;
};

struct Comparison {
  ComparisonLimits limits;
  ComparedSide base, head;
  std::optional<CommonShift> shift;  // nothing: too few rows to tell it from their own
  std::vector<std::string> notes;    // what a reader has to know besides the rows
  std::vector<ComparedRow> rows;     // by verdict, then in the order of the files

  std::size_t count(Verdict verdict) const;
  /// A row became slower, or is or became wrong.
  bool regression() const;
  /// Something that should have been judged could not be: a row is missing, has no counterpart or too few
  /// samples, or a run is incomplete.
  bool unjudged() const;
  /// A regression, a row or the rest of a run missing in NEW or, unless allowed, anything else unjudged.
  bool failed() const;
};

/// Throws UsageError if the runs cannot be compared: another machine, backend or launch (unless roofline
/// fractions are compared), no model or no configuration in common.
Comparison compare_runs(const std::vector<StoredRun>& base, const std::vector<StoredRun>& head,
                        const ComparisonLimits& limits);

}  // namespace helix
