#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <map>

#include "bench/command_line.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/common/files.hpp"
#include "sweeps/common/list_syntax.hpp"
#include "sweeps/compare/comparison_formats.hpp"
#include "sweeps/compare/microbench_run.hpp"
#include "sweeps/launch/mpi_session.hpp"

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

std::vector<StoredRun> read_side(const std::string& first, const std::vector<std::string>& repeats,
                                 bool microbench) {
  const auto read = microbench ? read_microbench_run : read_stored_run;
  std::vector<StoredRun> side{read(first)};
  for (const std::string& run : repeats) side.push_back(read(run));
  return side;
}

}  // namespace

int compare_command(const Arguments& arguments) {
  CLI::App app(
      "Verdict on two run directories: did any configuration become slower, or wrong?\n"
      "Exit code 0: no; 1: yes, or something is missing or cannot be judged; 2: they cannot be compared.\n"
      "Outputs without FILE go to standard output, instead of the table.",
      "compare");
  std::string base, head, threshold = "3", floor_us, alpha = "0.02", run_noise;
  std::vector<std::string> base_repeats, head_repeats;
  bool force = false, quiet = false, allow_unjudged = false, microbench = false;
  app.add_option("BASE", base, "run directory to compare with (--microbench: JSON file)")->required();
  app.add_option("NEW", head, "run directory to judge")->required();
  app.add_option("--base-repeat", base_repeats, "further runs of BASE; give them after BASE and NEW")
      ->type_name("DIR...");
  app.add_option("--new-repeat,--head-repeat", head_repeats, "further runs of NEW, taken in turn with BASE's")
      ->type_name("DIR...");
  app.add_option("--threshold", threshold, "a median that moved by less does not matter (default 3)")
      ->type_name("PERCENT");
  app.add_option("--floor-us", floor_us,
                 "nor does one that moved by less than this (default 5; --microbench: 0)")
      ->type_name("US");
  app.add_option("--alpha", alpha, "chance of a false alarm, slower or faster, in any row (default 0.02)")
      ->type_name("P");
  app.add_option(
         "--run-noise", run_noise,
         "what runs may differ by where neither repeats nor eight rows tell (default 9; --microbench: 0)")
      ->type_name("PERCENT");
  app.add_flag("--allow-unjudged", allow_unjudged,
               "rows without a time in BASE or with too few samples do not fail the comparison");
  app.add_flag("--microbench", microbench,
               "BASE and NEW are what helix-microbench wrote (--benchmark_out=FILE.json), its repetitions "
               "the samples");
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
  const auto percentage = [](std::string text, const char* flag) {
    if (text.ends_with('%')) text.pop_back();
    return parse_real(text, 0, 1000, flag) / 100.0;
  };
  if (microbench && force) {
    throw UsageError(
        "--force with --microbench: micro-benchmarks have no roofline to be held against; valid: one of "
        "them");
  }
  if (microbench) limits.floor_us = limits.run_noise = 0;
  limits.threshold = percentage(threshold, "--threshold");
  if (!floor_us.empty()) limits.floor_us = parse_real(floor_us, 0, 1e12, "--floor-us");
  if (!run_noise.empty()) limits.run_noise = percentage(run_noise, "--run-noise");
  limits.alpha = parse_real(alpha, 1e-9, 0.5, "--alpha");
  limits.roofline_fractions = force;
  limits.allow_unjudged = allow_unjudged;
  limits.microbench = microbench;
  std::string printed;
  for (const auto& [flag, file] : files) {
    if (file != standard_output) continue;
    if (!printed.empty()) {
      throw UsageError(
          fmt::format("{} and --{} both on standard output; valid: a file for one of them", printed, flag));
    }
    printed = fmt::format("--{}", flag);
  }

  const std::vector<StoredRun> base_runs = read_side(base, base_repeats, microbench);
  const std::vector<StoredRun> head_runs = read_side(head, head_repeats, microbench);
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
