#include "sweeps/measure/run_sweep.hpp"

#include "bench/command_line.hpp"
#include "sweeps/launch/mpi_session.hpp"

namespace helix {

int sweep_command(const Arguments& arguments) {
  CLI::App app("Measures every configuration that fits this MPI world, prediction beside each", "sweep");
  app.footer("Example: mpirun -n 2 helix-bench sweep --model llama-3.2-1b --context 4k,64k --batch 1,8");
  const RequestFlags flags(app, Command::sweep);
  if (parse_or_help(app, arguments)) return 0;
  const SweepRequest request = flags.request("default", arguments);
  return run_with_mpi([&] { return run_sweep(request); }, request.stall_timeout_s);
}

}  // namespace helix
