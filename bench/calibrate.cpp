#include "bench/command_line.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/machine/run_calibrate.hpp"

namespace helix {

int calibrate_command(const Arguments& arguments) {
  CLI::App app("Measures this machine and writes a system file", "calibrate");
  app.footer(
      "Example: mpirun -n 2 helix-bench calibrate --out here.yaml, then helix-bench predict --system "
      "here.yaml");
  CalibrateRequest request;
  app.add_option("--backend", request.backend, "what computes")
      ->type_name("cpu|cuda|auto")
      ->check(CLI::IsMember({"cpu", "cuda", "auto"}));
  app.add_option("--out", request.out, "the system file (default: standard output)")->type_name("FILE.yaml");
  app.add_option("--rounds", request.rounds, "rounds of measuring at most, about a second each")
      ->type_name("N")
      ->check(CLI::Range(1, 1000));
  app.add_option("--stall-timeout", request.stall_timeout_s,
                 "end the run if no rank makes progress for S seconds; 0: wait for ever (default 120)")
      ->type_name("S")
      ->check(CLI::Range(0.0, 1e6));
  app.add_flag("--force", request.force, "write figures that stayed noisy, too; the file names them");
  app.add_flag("--quiet", request.quiet, "no table");
  if (parse_or_help(app, arguments)) return 0;
  return run_with_mpi([&] { return run_calibrate(request); }, request.stall_timeout_s);
}

}  // namespace helix
