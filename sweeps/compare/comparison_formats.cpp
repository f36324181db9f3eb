#include "sweeps/compare/comparison_formats.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "roofline/base/csv.hpp"

namespace helix {
namespace {

using nlohmann::ordered_json;

/// The verdict in words.
std::string label(Verdict verdict) {
  std::string text(name(verdict));
  std::ranges::replace(text, '_', ' ');
  return text;
}

std::string value_unit(const Comparison& c) {
  if (c.limits.roofline_fractions) return "roofline";
  return c.limits.microbench ? "us" : "ms";
}

std::string value_text(const Comparison& c, const std::optional<double>& value) {
  if (!value) return "";
  if (c.limits.roofline_fractions) return fmt::format("{:.1f} %", 100.0 * *value);
  return fmt::format("{:.4f}", c.limits.microbench ? *value : *value / 1e3);
}

std::string change_text(const std::optional<double>& change) {
  return change ? fmt::format("{:+.2f} %", 100.0 * *change) : "";
}

std::string p_text(const ComparedRow& row) {
  return row.p_value ? fmt::format("{:.2g}", *row.p_value) : "";
}

std::string samples_text(const ComparedRow& row) {
  return row.change ? fmt::format("{}/{}", row.base_samples, row.head_samples) : "";
}

std::string method(const Comparison& c) {
  const bool single = c.base.directories.size() + c.head.directories.size() == 2;
  return single ? "shifts of medians against the scatter of the rows' shifts"
                : "moderated t over runs, variance shared by rows";
}

/// What it takes to count as moved.
std::string criteria(const Comparison& c) {
  const std::string floor = c.limits.roofline_fractions ? " of the roofline fraction"
                                                        : fmt::format(" and {:g} us", c.limits.floor_us);
  return fmt::format("{}: alpha {:g}, more than {:g} %{}", method(c), c.limits.alpha,
                     100.0 * c.limits.threshold, floor);
}

std::string compared(const Comparison& c) {
  if (c.limits.roofline_fractions) return "roofline_fraction";
  return c.limits.microbench ? "time_us" : "ttl_us";
}

std::string side_text(const char* role, const ComparedSide& side) {
  return fmt::format("{} {} (commit {})", role, fmt::join(side.directories, " "), side.commit);
}

/// Seven digits: what the times have on disk.
ordered_json rounded(const std::optional<double>& value, double unit = 1.0) {
  return value ? ordered_json::parse(fmt::format("{:.7g}", *value * unit)) : ordered_json(nullptr);
}

ordered_json side_json(const ComparedSide& side) {
  return {{"directories", side.directories}, {"commit", side.commit}, {"incomplete", side.incomplete}};
}

std::string markdown_cell(std::string_view text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|' || c == '<') cell += '\\';  // a column, a tag
    cell += c == '\n' ? ' ' : c;
  }
  return cell;
}

std::string markdown_rows(const Comparison& c, std::span<const ComparedRow> rows) {
  std::string text = fmt::format(
      "| verdict | configuration | BASE {0} | NEW {0} | change | after shift | p | |\n"
      "|:--|:--|--:|--:|--:|--:|--:|:--|\n",
      value_unit(c));
  for (const ComparedRow& row : rows) {
    const bool alarming = fails(row.verdict);
    text += fmt::format("| {0}{1}{0} | `{2}` | {3} | {4} | {5} | {6} | {7} | {8} |\n", alarming ? "**" : "",
                        label(row.verdict), markdown_cell(row.id), value_text(c, row.base),
                        value_text(c, row.head), change_text(row.change), change_text(row.change_after_shift),
                        p_text(row), markdown_cell(row.reason));
  }
  return text;
}

}  // namespace

std::string comparison_headline(const Comparison& c) {
  std::string text;
  for (const Verdict verdict : all_verdicts) {
    if (const std::size_t count = c.count(verdict); count > 0) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, label(verdict));
    }
  }
  const char* verdict = "no regression";
  if (c.failed()) verdict = c.regression() ? "REGRESSION" : "NOT JUDGED";
  if (!c.base.incomplete.empty() || !c.head.incomplete.empty()) text += ", incomplete runs";
  return fmt::format("{}: {} ({} row{})", verdict, text, c.rows.size(), c.rows.size() == 1 ? "" : "s");
}

std::string comparison_table(const Comparison& c) {
  std::size_t width = 13;
  for (const ComparedRow& row : c.rows) width = std::max(width, row.id.size());
  std::string text = fmt::format("{:<15}  {:<{}}  {:>12}  {:>12}  {:>9}  {:>11}  {:>8}  {:>8}  note\n",
                                 "verdict", "configuration", width, "BASE " + value_unit(c),
                                 "NEW " + value_unit(c), "change", "after shift", "p", "samples");
  for (const ComparedRow& row : c.rows) {
    std::string line =
        fmt::format("{:<15}  {:<{}}  {:>12}  {:>12}  {:>9}  {:>11}  {:>8}  {:>8}  {}", label(row.verdict),
                    row.id, width, value_text(c, row.base), value_text(c, row.head), change_text(row.change),
                    change_text(row.change_after_shift), p_text(row), samples_text(row), row.reason);
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  text += '\n' + criteria(c) + '\n';
  for (const std::string& note : c.notes) text += note + '\n';
  return text + comparison_headline(c) + '\n';
}

std::string comparison_markdown(const Comparison& c) {
  std::string text = fmt::format("### helix-bench: {}\n\n", comparison_headline(c));
  const auto rest =
      std::ranges::find_if(c.rows, [](const ComparedRow& row) { return row.verdict > Verdict::improved; });
  if (rest != c.rows.begin()) text += markdown_rows(c, {c.rows.begin(), rest}) + '\n';
  if (rest != c.rows.end()) {
    text += fmt::format("<details><summary>{} other rows</summary>\n\n{}\n</details>\n\n",
                        c.rows.end() - rest, markdown_rows(c, {rest, c.rows.end()}));
  }
  text += fmt::format("{}  \n{}  \n{}.\n", side_text("BASE", c.base), side_text("NEW", c.head), criteria(c));
  for (const std::string& note : c.notes) text += '\n' + note + '\n';
  return text;
}

std::string comparison_json(const Comparison& c) {
  ordered_json counts = ordered_json::object();
  for (const Verdict verdict : all_verdicts) counts[std::string(name(verdict))] = c.count(verdict);
  const bool fractions = c.limits.roofline_fractions;
  const std::string unit = compared(c);
  ordered_json rows = ordered_json::array();
  for (const ComparedRow& row : c.rows) {
    rows.push_back({{"id", row.id},
                    {"verdict", name(row.verdict)},
                    {"reason", row.reason},
                    {"base_" + unit, rounded(row.base)},
                    {"new_" + unit, rounded(row.head)},
                    {"change_percent", rounded(row.change, 100.0)},
                    {"change_after_shift_percent", rounded(row.change_after_shift, 100.0)},
                    {"detectable_percent", rounded(row.detectable, 100.0)},
                    {"p_value", rounded(row.p_value)},
                    {"base_samples", row.base_samples},
                    {"new_samples", row.head_samples}});
  }
  ordered_json shift = nullptr;
  if (c.shift) {
    shift = {{"change_percent", rounded(c.shift->change, 100.0)},
             {"detectable_percent", rounded(c.shift->detectable, 100.0)},
             {"counts", c.shift->counts}};
  }
  const ordered_json all{{"schema_version", 1},
                         {"passed", !c.failed()},
                         {"regression", c.regression()},
                         {"unjudged", c.unjudged()},
                         {"headline", comparison_headline(c)},
                         {"compared", unit},
                         {"test", method(c)},
                         {"alpha", c.limits.alpha},
                         {"threshold_percent", rounded(c.limits.threshold, 100.0)},
                         {"floor_us", fractions ? ordered_json(nullptr) : ordered_json(c.limits.floor_us)},
                         {"base", side_json(c.base)},
                         {"new", side_json(c.head)},
                         {"counts", counts},
                         {"common_shift", shift},
                         {"notes", c.notes},
                         {"rows", rows}};
  return all.dump(2) + "\n";
}

std::string comparison_csv(const Comparison& c) {
  const std::string unit = compared(c);
  const auto number = [](const std::optional<double>& value, double scale = 1.0) {
    return value ? fmt::format("{:.7g}", *value * scale) : "";
  };
  std::string text = csv_line(std::array<std::string, 11>{
      "id", "verdict", "reason", "base_" + unit, "new_" + unit, "change_percent",
      "change_after_shift_percent", "detectable_percent", "p_value", "base_samples", "new_samples"});
  for (const ComparedRow& row : c.rows) {
    text += csv_line(std::array<std::string, 11>{
        row.id, std::string(name(row.verdict)), row.reason, number(row.base), number(row.head),
        number(row.change, 100.0), number(row.change_after_shift, 100.0), number(row.detectable, 100.0),
        number(row.p_value), fmt::format("{}", row.base_samples), fmt::format("{}", row.head_samples)});
  }
  return text;
}

std::string comparison_benchmark_action(const Comparison& c) {
  ordered_json entries = ordered_json::array();
  for (const ComparedRow& row : c.rows) {
    if (!row.head) continue;
    const bool fractions = c.limits.roofline_fractions;
    entries.push_back(
        {{"name", row.id},
         {"unit", fractions ? "times the roofline" : "us"},
         {"value", rounded(fractions ? 1.0 / *row.head : *row.head)},
         {"extra", row.reason.empty() ? fmt::format("{}: {} against BASE, p {}", label(row.verdict),
                                                    change_text(row.change), p_text(row))
                                      : row.reason}});
  }
  return entries.dump(2) + "\n";
}

std::span<const ComparisonFormat> comparison_formats() {
  static constexpr std::array formats = {
      ComparisonFormat{"markdown", "for a pull request or $GITHUB_STEP_SUMMARY", comparison_markdown},
      ComparisonFormat{"json", "everything, for programs", comparison_json},
      ComparisonFormat{"csv", "one record a row", comparison_csv},
      ComparisonFormat{"junit", "JUnit XML, a test case a row", comparison_junit},
      ComparisonFormat{"benchmark-action", "customSmallerIsBetter of github-action-benchmark",
                       comparison_benchmark_action}};
  return formats;
}

}  // namespace helix
