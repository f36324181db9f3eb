#include "sweeps/compare/comparison.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "roofline/base/statistics.hpp"
#include "sweeps/compare/matched_rows.hpp"
#include "sweeps/compare/repeated_runs.hpp"
#include "sweeps/compare/run_pair.hpp"

namespace helix {
namespace {

constexpr std::size_t least_samples = 9;

std::string percent(double fraction) {
  return fmt::format("{:.3g} %", 100.0 * fraction);
}
/// Of a change that could be told; scatter may be such that hardly any could.
std::string telling(double change) {
  return change <= 9 ? percent(change) : "over ten times";
}

ComparedRow without_times(const MatchedRow& pair) {
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
  ComparedRow row = without_times(pair);
  row.base = geometric_mean(run_medians(pair.base, limits));
  row.head = geometric_mean(run_medians(pair.head, limits));
  row.change = *row.head / *row.base - 1.0;
  return row;
}

/// The verdict of a row that has no two times to compare, or none that statistics can judge; empty: it has.
std::optional<ComparedRow> unjudgeable(const MatchedRow& pair, const ComparisonLimits& limits) {
  ComparedRow row = without_times(pair);
  const std::optional<Status> base = pair.base.status(), head = pair.head.status();
  const auto as = [&](Verdict verdict, std::string reason) {
    row.verdict = verdict;
    row.reason = std::move(reason);
    return row;
  };
  if (head && is_failure(*head)) {
    const std::string& reason = pair.head.find(*head)->reason;
    return as(Verdict::failing, base && is_failure(*base) ? "in both: " + reason : reason);
  }
  if (!head) {
    if (!base) return as(Verdict::unmatched, "not in all runs of either side");
    return as(Verdict::missing,
              pair.head.of_run.empty() ? "not in NEW: is the run complete?" : "not in all runs of NEW");
  }
  if (is_timed(*head) && base && is_timed(*base) && head != base)
    return as(Verdict::unmatched, fmt::format("{} in BASE, {} in NEW", name(*base), name(*head)));
  if (base && is_timed(*base) && head == Status::skipped) {
    return as(Verdict::newly_skipped, pair.head.find(Status::skipped)->reason);
  }
  if (!base) {
    return as(Verdict::unmatched, pair.base.of_run.empty() ? "not in BASE" : "not in all runs of BASE");
  }
  if (head == Status::skipped)
    return as(Verdict::unchanged, fmt::format("{} in BASE, skipped in NEW", name(*base)));
  if (!is_timed(*base)) return as(Verdict::unmatched, fmt::format("{} in BASE", name(*base)));
  if (limits.roofline_fractions) {
    for (const SideRow* side : {&pair.base, &pair.head}) {
      for (const StoredRow* stored : side->of_run) {
        if (!(stored->roofline_ttl_us > 0)) return as(Verdict::unmatched, "no roofline");
      }
    }
  }
  if (std::min(row.base_samples, row.head_samples) < least_samples) {
    row = with_times(pair, limits);
    return as(Verdict::too_few_samples,
              fmt::format("at least {} samples are needed: {}", least_samples,
                          limits.microbench ? "--benchmark_repetitions of the micro-benchmarks"
                                            : "more --max-time or --min-samples of the sweep"));
  }
  return std::nullopt;
}

/// Whether a change of the row is more than the threshold and the floor.
bool matters(double change, const ComparedRow& row, const ComparisonLimits& limits) {
  const double size = std::fabs(change);
  return size > limits.threshold && (limits.roofline_fractions || size * *row.base > limits.floor_us);
}

Movements movements_of_pair(const std::vector<MatchedRow>& pairs, const ComparisonLimits& limits) {
  std::vector<SampledRow> rows;
  for (const MatchedRow& pair : pairs) {
    rows.push_back({compared_samples(*pair.base.of_run.front(), limits),
                    compared_samples(*pair.head.of_run.front(), limits)});
  }
  return movements_of(rows, limits.run_noise, limits.alpha / 2);
}

Movements movements_of_repeats(const std::vector<MatchedRow>& pairs, const Comparison& result) {
  RepeatedRuns runs{result.base.directories.size(), result.head.directories.size(), {}};
  for (const MatchedRow& pair : pairs) {
    std::vector<double> medians = run_medians(pair.base, result.limits);
    const std::vector<double> of_head = run_medians(pair.head, result.limits);
    medians.insert(medians.end(), of_head.begin(), of_head.end());
    runs.medians_us.push_back(std::move(medians));
  }
  return movements_of(runs, result.limits.alpha / 2);
}

void judge(const Movements& moved, std::vector<ComparedRow>& rows, Comparison& result) {
  const ComparisonLimits& limits = result.limits;
  const double common_p = std::min(moved.common.p_slower, moved.common.p_faster) / common_share;
  const bool alike = common_p <= limits.alpha / 2;
  if (moved.common.detectable > 0) {
    result.shift = CommonShift{std::expm1(moved.common.shift), std::expm1(moved.common.detectable), alike};
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Movement& own = moved.own[i];
    ComparedRow& row = rows[i];
    row.change_after_shift = std::expm1(own.shift);
    row.detectable = std::expm1(own.detectable);
    const double shift = own.shift + (alike ? moved.common.shift : 0.0), change = std::expm1(shift);
    double p = (shift > 0 ? own.p_slower : own.p_faster) / own_share;
    if (alike && (shift > 0) == (moved.common.shift > 0)) p = std::min(p, common_p);
    row.p_value = std::min(1.0, 2 * p);
    if (!matters(change, row, limits)) continue;
    if (*row.p_value <= limits.alpha) {
      row.verdict = shift > 0 ? Verdict::regressed : Verdict::improved;
    } else {
      row.reason =
          fmt::format("within what these runs differ by; from {} it could be told", telling(*row.detectable));
    }
  }
}

/// What the comparison could tell, and how it could tell more.
void note_reach(Comparison& result, const std::vector<ComparedRow>& rows) {
  if (rows.empty()) return;
  std::vector<double> reach;
  for (const ComparedRow& row : rows) reach.push_back(std::max(*row.detectable, result.limits.threshold));
  std::ranges::sort(reach);
  const bool single = result.base.directories.size() + result.head.directories.size() == 2;
  result.notes.push_back(fmt::format(
      "A row that is {} slower would be found in 9 of 10 such comparisons{}{}; {}.",
      telling(median_of_sorted(reach)),
      rows.size() == 1 ? "" : fmt::format(" (the noisiest row: {})", telling(reach.back())),
      result.shift ? fmt::format(", all rows alike from {}", telling(result.shift->detectable)) : "",
      result.limits.microbench
          ? "more --benchmark_repetitions can tell less"
          : (single ? "repeats (--base-repeat, --new-repeat), taken in turn, can tell less"
                    : "more repeats can tell less")));
  if (result.shift && std::fabs(result.shift->change) > result.limits.threshold) {
    result.notes.push_back(fmt::format("All rows alike moved by {:+.1f} %{}", 100.0 * result.shift->change,
                                       result.shift->counts
                                           ? "."
                                           : ", which is within what runs differ by anyway: rows are judged "
                                             "by their change after that shift."));
  }
}

ComparedSide describe(const std::vector<StoredRun>& runs, const char* side, std::vector<std::string>& notes) {
  ComparedSide described{{}, runs.front().commit, {}};
  for (const StoredRun& run : runs) {
    described.directories.push_back(run.directory.string());
    if (run.commit != described.commit) {
      notes.push_back(
          fmt::format("{} holds runs of different commits, {} and {}.", side, described.commit, run.commit));
    }
    if (run.complete) continue;
    described.incomplete.push_back(run.directory.string());
    notes.push_back(fmt::format("The run '{0}' is incomplete; to end it: sweep --resume --out {0}",
                                run.directory.string()));
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
    case Verdict::missing:
      return "missing";
    case Verdict::newly_skipped:
      return "newly_skipped";
    case Verdict::unmatched:
      return "unmatched";
    case Verdict::too_few_samples:
      return "too_few_samples";
    case Verdict::improved:
      return "improved";
    case Verdict::unchanged:
      return "unchanged";
  }
  return "?";
}

std::size_t Comparison::count(Verdict verdict) const {
  return static_cast<std::size_t>(std::ranges::count(rows, verdict, &ComparedRow::verdict));
}

bool Comparison::regression() const {
  return count(Verdict::failing) + count(Verdict::regressed) > 0;
}

bool Comparison::unjudged() const {
  return count(Verdict::missing) + count(Verdict::newly_skipped) + count(Verdict::unmatched) +
             count(Verdict::too_few_samples) + base.incomplete.size() + head.incomplete.size() >
         0;
}

bool Comparison::failed() const {
  const bool fails_anyway =
      !head.incomplete.empty() || std::ranges::any_of(rows, fails, &ComparedRow::verdict);
  return fails_anyway || (unjudged() && !limits.allow_unjudged);
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
  const bool single = base.size() + head.size() == 2;
  judge(single ? movements_of_pair(judged, limits) : movements_of_repeats(judged, result), rows, result);
  note_reach(result, rows);
  if (result.unjudged()) {
    result.notes.emplace_back(
        "What is missing or cannot be judged does not pass; --allow-unjudged lets pass what has no time in "
        "BASE "
        "or too few samples.");
  }
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
