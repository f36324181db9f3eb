#include "bench/command_line.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/measure/run_generate.hpp"

namespace helix {

int generate_command(const Arguments& arguments) {
  CLI::App app("Decodes a prompt with a checkpoint's weights, and the model's answer, in any sharding",
               "generate");
  app.footer(
      "Example: mpirun -n 3 helix-bench generate --weights DIR --prompt-tokens 1,2,3 --max-new-tokens 24 "
      "--kvp 3");
  const RequestFlags flags(app, Command::generate);
  if (parse_or_help(app, arguments)) return 0;
  if (app.get_option("--weights")->count() == 0)
    throw UsageError("generate: needs --weights DIR, the directory of a Hugging Face checkpoint");
  const SweepRequest request = flags.request("", arguments);
  if (request.prompt.empty()) throw UsageError("generate: needs --prompt-tokens LIST or --prompt-file FILE");
  return run_with_mpi([&] { return run_generate(request); }, request.stall_timeout_s);
}

}  // namespace helix
