#include "sweeps/machine/run_calibrate.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include "sweeps/common/files.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/backend_choice.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/machine/calibrate.hpp"

namespace helix {

int run_calibrate(const CalibrateRequest& request) {
  World world = describe_world(MPI_COMM_WORLD);
  const std::unique_ptr<Backend> backend = make_backend(request.backend, world);
  std::unique_ptr<Buffer> memory;
  on_root([&] {
    if (!request.out.empty()) require_writable(request.out, "--out");
  });
  // A minute at most: a file is read more often than it is written.
  const ProbeEffort thorough{
      .figure_us = 1.5e4, .least_rounds = 30, .most_rounds = request.rounds, .quantile = 0.25};
  const auto all = [](std::span<const DType> dtypes) {
    return std::vector<DType>(dtypes.begin(), dtypes.end());
  };
  const CalibrationRequest common{.models = {},
                                  .weight_dtypes = all(backend->weight_dtypes()),
                                  .kv_dtypes = all(backend->kv_dtypes()),
                                  .effort = thorough};
  working_on("calibrating");
  const SystemSpec system = calibrate(*backend, world.comm, world, common, memory);
  int code = 0;
  on_root([&] {
    const ActivityFlag printing(&Activity::unwatched);
    code = write_calibration(system, world.size, request);
  });
  return code;
}

int write_calibration(const SystemSpec& system, int ranks, const CalibrateRequest& request) {
  const std::string noisy = noisy_figures(system);
  const bool refused = !noisy.empty() && !request.out.empty() && !request.force;
  if (!noisy.empty()) {
    fmt::print(stderr, "helix-bench: noisy, though measured anew: {}; the machine was busy{}\n", noisy,
               refused ? fmt::format(", so '{}' was not written: try a quiet machine, or --force",
                                     request.out.string())
                       : "");
  }
  if (refused) return 1;
  if (request.out.empty()) {
    fmt::print("{}", to_yaml(system));
    return 0;
  }
  write_atomically(request.out, to_yaml(system));
  if (!request.quiet) {
    const double clock_hz = system.peak_flops.core_clock_hz;
    fmt::print("{}: {:.1f} GB/s and {:.0f} GFLOP/s bf16 a rank with {} ranks at once{} -> {}\n", system.name,
               system.dram.achieved_bytes_per_s / 1e9, system.peak_flops.bf16 / 1e9, ranks,
               clock_hz > 0 ? fmt::format(", cores at {:.2f} GHz", clock_hz / 1e9) : "",
               request.out.string());
  }
  return 0;
}

}  // namespace helix
