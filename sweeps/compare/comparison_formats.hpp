// A comparison for people, pull requests and other programs.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "sweeps/compare/comparison.hpp"

namespace helix {

/// For the terminal: every row, notes, and the verdict in the last line.
std::string comparison_table(const Comparison& comparison);
/// GitHub-flavoured Markdown, for a pull request or $GITHUB_STEP_SUMMARY: what moved first, the rest folded.
std::string comparison_markdown(const Comparison& comparison);
/// Everything known about the comparison.
std::string comparison_json(const Comparison& comparison);
/// One record a row.
std::string comparison_csv(const Comparison& comparison);
/// JUnit XML, a test case a row, as GitLab and Jenkins read it.
std::string comparison_junit(const Comparison& comparison);
/// NEW's times as "customSmallerIsBetter" of github-action-benchmark.
std::string comparison_benchmark_action(const Comparison& comparison);

struct ComparisonFormat {
  std::string_view flag, help;
  std::string (*format)(const Comparison& comparison);
};
/// Those that a flag asks for.
std::span<const ComparisonFormat> comparison_formats();

/// "2 of 50 rows regressed, 1 improved": the verdict in one line.
std::string comparison_headline(const Comparison& comparison);

}  // namespace helix
