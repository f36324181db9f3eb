// helix-bench [COMMAND] [FLAGS]: picks the command and turns errors into exit codes.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <system_error>

#include "bench/commands.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/output/provenance.hpp"

namespace helix {
namespace {

struct Subcommand {
  std::string_view name, help;
  int (*run)(const Arguments& arguments);
};
constexpr Subcommand commands[] = {
    {"sweep", "measure every configuration that fits this MPI world, prediction beside each (the default)",
     sweep_command},
    {"predict", "the same table from the model alone, for any system and number of GPUs", predict_command},
    {"verify", "hold every sharding against a single-rank high-precision reference", verify_command},
    {"generate", "decode a prompt with a checkpoint's weights, and the model's answer", generate_command},
    {"calibrate", "measure this machine and write a system file", calibrate_command},
    {"compare", "regression verdict of two run directories", compare_command},
    {"report", "one page with the plots of runs, and the plots as SVG and PNG: report RUN...",
     report_command},
    {"export", "the deployment configuration of a point: export RUN --point ID --format trtllm|vllm",
     export_command},
    {"list", "what is built in: list models, list systems, list sweeps, list kernels", list_command},
};

int print_overview() {
  if (launched_rank() != 0) return 0;
  fmt::print(
      "helix-bench: measured and predicted Helix-parallel LLM decoding\n\n"
      "[mpirun -n R] helix-bench [COMMAND] [FLAGS]\n\n");
  for (const Subcommand& command : commands) fmt::print("  {:<10} {}\n", command.name, command.help);
  fmt::print(
      "\nhelix-bench COMMAND --help lists the flags of a command; --version prints version and commit.\n");
  return 0;
}

int run(Arguments arguments) {
  if (arguments.empty() || arguments.front().starts_with('-')) {
    if (arguments == Arguments{"--help"} || arguments == Arguments{"-h"}) return print_overview();
    if (arguments == Arguments{"--version"}) {
      if (launched_rank() == 0) fmt::print("helix-bench {} ({})\n", program_version(), program_commit());
      return 0;
    }
    return sweep_command(arguments);
  }
  const std::string name = arguments.front();
  arguments.erase(arguments.begin());
  std::string valid;
  for (const Subcommand& command : commands) {
    if (name == command.name) return command.run(arguments);
    valid += fmt::format("{}{}", valid.empty() ? "" : ", ", command.name);
  }
  throw UsageError(fmt::format("unknown command '{}'; valid: {}", name, valid));
}

}  // namespace
}  // namespace helix

int main(int argc, char** argv) {
  try {
    const int code = helix::run({argv + 1, argv + argc});
    // A full disk behind a redirection shows when the buffer is written, at the latest here.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      throw std::system_error(errno, std::generic_category(), "cannot write to standard output");
    }
    return code;
  } catch (const helix::UsageError& error) {
    return helix::leave_with_usage_error(error.what());
  } catch (const std::exception& error) {
    std::fputs(fmt::format("helix-bench: {}\n", helix::message_of(error)).c_str(), stderr);
    return 3;
  }
}
