#include <fmt/format.h>

#include <array>

#include "bench/command_line.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/common/files.hpp"
#include "sweeps/export/deployment.hpp"
#include "sweeps/export/sglang_command.hpp"
#include "sweeps/export/trtllm_config.hpp"
#include "sweeps/export/vllm_command.hpp"
#include "sweeps/launch/mpi_session.hpp"

namespace helix {
namespace {

struct Format {
  const char* name;
  std::string (*write)(const DeployedPoint&);
};
constexpr std::array formats = {Format{"trtllm", trtllm_config}, Format{"vllm", vllm_command},
                                Format{"sglang", sglang_command}};

}  // namespace

int export_command(const Arguments& arguments) {
  CLI::App app("Writes the deployment configuration of a point of a run", "export");
  app.footer("Example: helix-bench export results/latest --point ID --format vllm");
  std::string run, point, format, out;
  app.add_option("RUN", run, "run directory")->required();
  app.add_option("--point", point, "the point's id: the first column of RUN/pareto.csv or RUN/results.csv")
      ->type_name("ID")
      ->required();
  std::vector<std::string> names;
  for (const Format& f : formats) names.emplace_back(f.name);
  app.add_option("--format", format,
                 "trtllm: YAML for TensorRT-LLM and --trtllm-config; vllm, sglang: a command line")
      ->type_name("trtllm|vllm|sglang")
      ->check(CLI::IsMember(names))
      ->required();
  app.add_option("--out", out, "file to write (default: standard output)")->type_name("FILE");
  if (parse_or_help(app, arguments)) return 0;
  if (launched_rank() != 0) return 0;

  const Run read = read_run(run);
  const auto chosen = std::ranges::find(names, format) - names.begin();
  const std::string text = formats.at(static_cast<std::size_t>(chosen)).write(deployed_point(read, point));
  if (out.empty()) {
    fmt::print("{}", text);
    return 0;
  }
  write_user_file(out, text, "--out");
  return 0;
}

}  // namespace helix
