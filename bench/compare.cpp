#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <map>

#include "bench/command_line.hpp"
#include "roofline/error.hpp"
#include "sweeps/comparison_formats.hpp"
#include "sweeps/files.hpp"
#include "sweeps/list_syntax.hpp"
#include "sweeps/mpi_session.hpp"

namespace helix {
namespace {

const std::string standard_output = "-";

bool names_format(const std::string& argument) {
  for (const ComparisonFormat& format : comparison_formats()) {
    if (argument == fmt::format("--{}", format.flag)) return true;
  }
  return false;
}

/// `--json FILE` as `--json=FILE`, and `--json` alone as `--json=-`: a flag whose value may be missing would
/// else take the run directory in `compare --json BASE NEW` for its file.
Arguments join_files(const Arguments& arguments) {
  Arguments joined;
  for (auto argument = arguments.begin(); argument != arguments.end(); ++argument) {
    joined.push_back(*argument);
    if (!names_format(*argument)) continue;
    const auto next = argument + 1;
    const bool has_file =
        next != arguments.end() && !next->starts_with("--") && !std::filesystem::is_directory(*next);
    joined.back() += "=" + (has_file ? *next : standard_output);
    if (has_file) argument = next;
  }
  return joined;
}

std::vector<StoredRun> read_side(const std::string& first, const std::vector<std::string>& repeats) {
  std::vector<StoredRun> side{read_stored_run(first)};
  for (const std::string& directory : repeats) side.push_back(read_stored_run(directory));
  return side;
}

}  // namespace

int compare_command(const Arguments& arguments) {
  CLI::App app(
      "Verdict on two run directories: did any configuration become slower, or wrong?\n"
      "Exit code 0: no; 1: yes; 2: they cannot be compared.\n"
      "Outputs without FILE go to standard output, instead of the table.",
      "compare");
  std::string base, head, threshold = "3", floor_us = "5", alpha = "0.02";
  std::vector<std::string> base_repeats, head_repeats;
  bool force = false, quiet = false;
  app.add_option("BASE", base, "run directory to compare with")->required();
  app.add_option("NEW", head, "run directory to judge")->required();
  app.add_option("--base-repeat", base_repeats, "further runs of BASE; give them after BASE and NEW")
      ->type_name("DIR...");
  app.add_option("--new-repeat,--head-repeat", head_repeats, "further runs of NEW, taken in turn with BASE's")
      ->type_name("DIR...");
  app.add_option("--threshold", threshold, "a median that moved by less does not matter (default 3)")
      ->type_name("PERCENT");
  app.add_option("--floor-us", floor_us, "nor does one that moved by less than this (default 5)")
      ->type_name("US");
  app.add_option("--alpha", alpha, "chance of a false alarm, slower or faster, in any row (default 0.02)")
      ->type_name("P");
  app.add_flag("--force", force, "compare roofline fractions instead of times: for different machines");
  app.add_flag("--quiet", quiet, "no table");
  std::map<std::string_view, std::string> files;
  for (const ComparisonFormat& format : comparison_formats()) {
    app.add_option(fmt::format("--{}", format.flag), files[format.flag], std::string(format.help))
        ->type_name("[FILE]");
  }
  if (parse_or_help(app, join_files(arguments))) return 0;
  if (launched_rank() != 0) return 0;

  ComparisonLimits limits;
  if (threshold.ends_with('%')) threshold.pop_back();
  limits.threshold = parse_real(threshold, 0, 1000, "--threshold") / 100.0;
  limits.floor_us = parse_real(floor_us, 0, 1e12, "--floor-us");
  limits.alpha = parse_real(alpha, 1e-9, 0.5, "--alpha");
  limits.roofline_fractions = force;
  std::string printed;
  for (const auto& [flag, file] : files) {
    if (file != standard_output) continue;
    if (!printed.empty()) {
      throw UsageError(
          fmt::format("{} and --{} both on standard output; valid: a file for one of them", printed, flag));
    }
    printed = fmt::format("--{}", flag);
  }

  const std::vector<StoredRun> base_runs = read_side(base, base_repeats);
  const std::vector<StoredRun> head_runs = read_side(head, head_repeats);
  const Comparison comparison = compare_runs(base_runs, head_runs, limits);
  for (const ComparisonFormat& format : comparison_formats()) {
    const std::string& file = files.at(format.flag);
    if (file.empty()) continue;
    const std::string text = format.format(comparison);
    if (file == standard_output) {
      std::fputs(text.c_str(), stdout);
    } else {
      write_user_file(file, text, fmt::format("--{}", format.flag));
    }
  }
  if (printed.empty() && !quiet) std::fputs(comparison_table(comparison).c_str(), stdout);
  return comparison.failed() ? 1 : 0;
}

}  // namespace helix
