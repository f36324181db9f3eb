// The `report` command: runs in, one page and its plots out.
#pragma once

#include <filesystem>
#include <vector>

namespace helix {

struct ReportRequest {
  std::vector<std::filesystem::path> runs;
  std::filesystem::path out;  // empty: the run's directory, of several runs a new one under results/
  bool quiet = false;
};

/// Writes report.html, and an SVG and a PNG of each plot if a Python with vl_convert is there. Returns the
/// exit code.
int run_report(const ReportRequest& request);

}  // namespace helix
