#include <fmt/format.h>

#include <fstream>

#include "bench/command_line.hpp"
#include "roofline/error.hpp"
#include "sweeps/deployment.hpp"
#include "sweeps/mpi_session.hpp"
#include "sweeps/trtllm_config.hpp"
#include "sweeps/vllm_command.hpp"

namespace helix {

int export_command(const Arguments& arguments) {
  CLI::App app("Writes the deployment configuration of a point of a run", "export");
  std::string run, point, format, out;
  app.add_option("RUN", run, "run directory")->required();
  app.add_option("--point", point, "the point's id: the first column of RUN/pareto.csv or RUN/results.csv")
      ->type_name("ID")
      ->required();
  app.add_option("--format", format,
                 "trtllm: YAML for TensorRT-LLM and --trtllm-config; vllm: a command line")
      ->type_name("trtllm|vllm")
      ->check(CLI::IsMember({"trtllm", "vllm"}))
      ->required();
  app.add_option("--out", out, "file to write (default: standard output)")->type_name("FILE");
  if (parse_or_help(app, arguments)) return 0;
  if (launched_rank() != 0) return 0;

  const Run read = read_run(run);
  const ResultRow& row = deployable_row(read, point);
  const std::string text = format == "trtllm" ? trtllm_config(row) : vllm_command(row);
  if (out.empty()) {
    fmt::print("{}", text);
    return 0;
  }
  std::ofstream file(out);
  if (!(file << text << std::flush)) throw UsageError(fmt::format("--out '{}': cannot write the file", out));
  return 0;
}

}  // namespace helix
