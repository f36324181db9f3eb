#include "sweeps/report/run_report.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <set>

#include "roofline/base/error.hpp"
#include "sweeps/common/files.hpp"
#include "sweeps/report/draw.hpp"
#include "sweeps/report/page.hpp"
#include "sweeps/report/plot_python.hpp"
#include "sweeps/results/run_place.hpp"
#include "sweeps/results/run_reader.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

std::vector<Run> read_runs(const std::vector<fs::path>& directories) {
  std::vector<Run> runs;
  for (const fs::path& directory : directories) runs.push_back(read_run(directory));
  // Runs are told apart by their names, and copies of one run are called the same.
  std::set<std::string> names;
  for (Run& run : runs) {
    if (!names.insert(run.name).second) run.name = run.directory.string();
  }
  return runs;
}

fs::path output_directory(const ReportRequest& request) {
  if (request.out.empty() && request.runs.size() > 1) return new_run_directory({});
  const fs::path directory = request.out.empty() ? request.runs.front() : request.out;
  std::error_code error;
  fs::create_directories(directory, error);
  if (error || access(directory.c_str(), W_OK | X_OK) != 0) {
    throw UsageError(fmt::format("cannot write to '{}'; valid: --out with a directory that can be written to",
                                 directory.string()));
  }
  return directory;
}

}  // namespace

int run_report(const ReportRequest& request) {
  vega_javascript();  // before anything is written: without it there is no page
  const std::vector<Run> runs = read_runs(request.runs);
  const std::vector<Plot> plots = report_plots(runs);
  const fs::path directory = output_directory(request);
  const std::string no_pictures = plots.empty() ? "" : draw_pictures(plots, directory);
  write_atomically(directory / "report.html", report_page(runs, plots, directory));
  if (!no_pictures.empty()) fmt::print(stderr, "helix-bench: no SVG and PNG: {}\n", no_pictures);
  if (request.quiet) return 0;
  fmt::print("{}\n", (directory / "report.html").string());
  if (!no_pictures.empty()) return 0;
  for (const Plot& plot : plots) {
    for (const char* ending : {".svg", ".png"}) {
      fmt::print("{}\n", (directory / (plot.name + ending)).string());
    }
  }
  return 0;
}

}  // namespace helix
