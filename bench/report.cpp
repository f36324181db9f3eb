#include "bench/command_line.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/report/run_report.hpp"

namespace helix {

int report_command(const Arguments& arguments) {
  CLI::App app("Writes one page with the plots of one or more runs, and the plots as SVG and PNG", "report");
  app.footer("Example: helix-bench report results/latest");
  ReportRequest request;
  app.add_option("RUN", request.runs, "run directories")->required();
  app.add_option("--out", request.out,
                 "directory to write to (default: the run's own, of several runs a new one under results/)")
      ->type_name("DIR");
  app.add_flag("--quiet", request.quiet, "do not print the names of the files");
  if (parse_or_help(app, arguments)) return 0;
  if (launched_rank() != 0) return 0;
  return run_report(request);
}

}  // namespace helix
