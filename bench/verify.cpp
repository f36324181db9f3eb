#include "bench/command_line.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/measure/run_verify.hpp"
#include "sweeps/measure/run_verify_text.hpp"

namespace helix {

int verify_command(const Arguments& arguments) {
  CLI::App app("Holds every sharding of the request against a single-rank high-precision reference",
               "verify");
  app.footer("Example: mpirun -n 4 helix-bench verify --model tiny-gqa --context 1k --batch 2");
  const RequestFlags flags(app, Command::verify);
  if (parse_or_help(app, arguments)) return 0;
  const SweepRequest request = flags.request("verify", arguments);
  if (request.weights.empty() && !request.prompt.empty())
    throw UsageError("verify: a text is decoded with the weights of a checkpoint; --weights DIR is missing");
  return run_with_mpi(
      [&] { return request.weights.empty() ? run_verify(request) : run_verify_text(request); },
      request.stall_timeout_s);
}

}  // namespace helix
