#include "sweeps/comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "roofline/statistics.hpp"
#include "sweeps/matched_rows.hpp"
#include "sweeps/rank_test.hpp"
#include "sweeps/run_permutation.hpp"

namespace helix {
namespace {

constexpr std::size_t least_samples = 9;

std::string percent(double fraction) {
  return fmt::format("{:.3g} %", 100.0 * fraction);
}

ComparedRow unjudged(const MatchedRow& pair) {
  ComparedRow row;
  row.id = pair.id;
  row.base_samples = pair.base.samples();
  row.head_samples = pair.head.samples();
  return row;
}

/// A run's samples of a row in what is compared: us, or multiples of the roofline.
std::vector<double> compared_samples(const StoredRow& row, const ComparisonLimits& limits) {
  std::vector<double> samples = row.samples_us;
  if (limits.roofline_fractions) {
    for (double& x : samples) x /= row.roofline_ttl_us;
  }
  return samples;
}

std::vector<double> run_medians(const SideRow& side, const ComparisonLimits& limits) {
  std::vector<double> medians;
  for (const StoredRow* row : side.of_run) medians.push_back(median(compared_samples(*row, limits)));
  return medians;
}

double geometric_mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double x : values) sum += std::log(x);
  return std::exp(sum / static_cast<double>(values.size()));
}

/// A row with its times, before the statistics are asked.
ComparedRow with_times(const MatchedRow& pair, const ComparisonLimits& limits) {
  ComparedRow row = unjudged(pair);
  row.base = geometric_mean(run_medians(pair.base, limits));
  row.head = geometric_mean(run_medians(pair.head, limits));
  row.change = *row.head / *row.base - 1.0;
  return row;
}

/// The verdict of a row that has no two times to compare, or none that statistics can judge; empty: it has.
std::optional<ComparedRow> unjudgeable(const MatchedRow& pair, const ComparisonLimits& limits) {
  ComparedRow row = unjudged(pair);
  const std::string base = pair.base.status(), head = pair.head.status();
  const auto as = [&](Verdict verdict, std::string reason) {
    row.verdict = verdict;
    row.reason = std::move(reason);
    return row;
  };
  if (head == "failed") {
    const std::string& reason = pair.head.find("failed")->reason;
    // What failed before fails no comparison, except for wrong results: they always do.
    if (base != "failed" || reason.starts_with("verification")) return as(Verdict::failing, reason);
    return as(Verdict::unchanged, "failed in both: " + reason);
  }
  if (base == "ok" && head == "skipped") {
    return as(Verdict::newly_skipped, pair.head.find("skipped")->reason);
  }
  if (base == "skipped" && head == "skipped") return as(Verdict::unchanged, "skipped in both");
  if (base != "ok") {
    return as(Verdict::unmatched, base.empty() ? "not in BASE" : fmt::format("{} in BASE", base));
  }
  if (head != "ok") return as(Verdict::unmatched, "not in NEW");
  if (limits.roofline_fractions) {
    for (const SideRow* side : {&pair.base, &pair.head}) {
      for (const StoredRow* stored : side->of_run) {
        if (!(stored->roofline_ttl_us > 0)) return as(Verdict::unmatched, "no roofline");
      }
    }
  }
  if (std::min(row.base_samples, row.head_samples) < least_samples) {
    row = with_times(pair, limits);
    return as(Verdict::too_few_samples, fmt::format("at least {} samples are needed", least_samples));
  }
  return std::nullopt;
}

/// Whether the row's change is more than the threshold and the floor.
bool matters(const ComparedRow& row, const ComparisonLimits& limits) {
  const double change = std::fabs(*row.change);
  return change > limits.threshold && (limits.roofline_fractions || change * *row.base > limits.floor_us);
}

void judge_samples(const std::vector<MatchedRow>& pairs, std::vector<ComparedRow>& rows, Comparison& result) {
  std::vector<double> p_values;
  for (const MatchedRow& pair : pairs) {
    p_values.push_back(mann_whitney_p(compared_samples(*pair.base.of_run.front(), result.limits),
                                      compared_samples(*pair.head.of_run.front(), result.limits)));
  }
  p_values = holm_adjusted(p_values);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].p_value = p_values[i];
    if (p_values[i] > result.limits.alpha || !matters(rows[i], result.limits)) continue;
    rows[i].verdict = *rows[i].change > 0 ? Verdict::regressed : Verdict::improved;
  }
  result.notes.emplace_back(
      "One run a side: this tells whether these two runs differ. Where whole runs are fast or slow (shared "
      "machines), only repeats tell whether the programs do: --base-repeat, --new-repeat.");
}

void judge_runs(const std::vector<MatchedRow>& pairs, std::vector<ComparedRow>& rows, Comparison& result) {
  RepeatedRuns runs{result.base.directories.size(), result.head.directories.size(), {}};
  for (const MatchedRow& pair : pairs) {
    std::vector<double> medians = run_medians(pair.base, result.limits);
    const std::vector<double> of_head = run_medians(pair.head, result.limits);
    medians.insert(medians.end(), of_head.begin(), of_head.end());
    runs.medians_us.push_back(std::move(medians));
  }
  const RunMovements moved = run_movements(runs);
  // Slower or faster, alike or a row alone: four chances of a false alarm share alpha.
  const double least_p = smallest_p(runs.base_runs, runs.new_runs);
  const double level = std::max(result.limits.alpha / 4.0, least_p);
  const bool alike = std::min(moved.common.p_slower, moved.common.p_faster) <= level;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Movement& own = moved.own[i];
    const double shift = own.shift + (alike ? moved.common.shift : 0.0);
    rows[i].change = std::expm1(shift);
    const bool slower = shift > 0;
    double p = slower ? own.p_slower : own.p_faster;
    if (alike) p = std::min(p, slower ? moved.common.p_slower : moved.common.p_faster);
    rows[i].p_value = std::min(1.0, 4.0 * p);
    if (p <= level && matters(rows[i], result.limits)) {
      rows[i].verdict = slower ? Verdict::regressed : Verdict::improved;
    }
  }
  result.notes.push_back(
      fmt::format("{} and {} runs: of comparisons of one program with itself at most {} raise an alarm{}.",
                  runs.base_runs, runs.new_runs, percent(2.0 * level),
                  least_p > result.limits.alpha / 4.0 ? "; more runs lower that (5 and 5: 1 %)" : ""));
  if (std::fabs(moved.common.shift) > result.limits.threshold) {
    result.notes.push_back(fmt::format(
        "All rows alike moved by {:+.1f} %{}", 100.0 * std::expm1(moved.common.shift),
        alike ? "." : ", which is within what these runs differ by anyway: it is left out of 'time'."));
  }
}

ComparedSide describe(const std::vector<StoredRun>& runs, const char* side, std::vector<std::string>& notes) {
  ComparedSide described{{}, runs.front().commit};
  for (const StoredRun& run : runs) {
    described.directories.push_back(run.directory.string());
    if (run.commit != described.commit) {
      notes.push_back(
          fmt::format("{} holds runs of different commits, {} and {}.", side, described.commit, run.commit));
    }
    if (!run.complete) notes.push_back(fmt::format("The run '{}' is incomplete.", run.directory.string()));
  }
  return described;
}

}  // namespace

std::string_view name(Verdict verdict) {
  switch (verdict) {
    case Verdict::failing:
      return "failing";
    case Verdict::regressed:
      return "regressed";
    case Verdict::improved:
      return "improved";
    case Verdict::newly_skipped:
      return "newly_skipped";
    case Verdict::unmatched:
      return "unmatched";
    case Verdict::too_few_samples:
      return "too_few_samples";
    case Verdict::unchanged:
      return "unchanged";
  }
  return "?";
}

std::size_t Comparison::count(Verdict verdict) const {
  return static_cast<std::size_t>(std::ranges::count(rows, verdict, &ComparedRow::verdict));
}

bool Comparison::failed() const {
  return count(Verdict::failing) + count(Verdict::regressed) > 0;
}

Comparison compare_runs(const std::vector<StoredRun>& base, const std::vector<StoredRun>& head,
                        const ComparisonLimits& limits) {
  require_comparable(base, head, !limits.roofline_fractions);
  Comparison result;
  result.limits = limits;
  result.base = describe(base, "BASE", result.notes);
  result.head = describe(head, "NEW", result.notes);

  std::vector<MatchedRow> judged;
  std::vector<ComparedRow> rows;
  for (MatchedRow& pair : match_rows(base, head)) {
    if (std::optional<ComparedRow> row = unjudgeable(pair, limits)) {
      result.rows.push_back(*std::move(row));
    } else {
      rows.push_back(with_times(pair, limits));
      judged.push_back(std::move(pair));
    }
  }
  (base.size() + head.size() == 2 ? judge_samples : judge_runs)(judged, rows, result);
  result.rows.insert(result.rows.end(), rows.begin(), rows.end());
  for (ComparedRow& row : result.rows) {
    if (!limits.roofline_fractions || !row.base) continue;
    row.base = 1.0 / *row.base;
    row.head = 1.0 / *row.head;
  }
  std::ranges::stable_sort(result.rows, {}, &ComparedRow::verdict);
  return result;
}

}  // namespace helix
