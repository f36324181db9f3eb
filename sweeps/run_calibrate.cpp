#include "sweeps/run_calibrate.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include "sweeps/backend_choice.hpp"
#include "sweeps/calibrate.hpp"
#include "sweeps/mpi_session.hpp"
#include "sweeps/results.hpp"

namespace helix {

int run_calibrate(const CalibrateRequest& request) {
  const World world = describe_world(MPI_COMM_WORLD);
  const std::unique_ptr<Backend> backend = make_backend(request.backend, world.threads);
  std::unique_ptr<Buffer> memory;
  const SystemSpec system = calibrate(*backend, world.comm, world,
                                      {.models = {},
                                       .weight_dtypes = {DType::bf16, DType::fp8},
                                       .kv_dtypes = {DType::bf16, DType::fp8},
                                       .seconds_per_probe = 0.3},
                                      memory);
  on_root([&] {
    const std::string yaml = to_yaml(system);
    if (request.out.empty()) {
      fmt::print("{}", yaml);
      return;
    }
    write_atomically(request.out, yaml);
    if (!request.quiet) {
      fmt::print("{}: {:.1f} GB/s and {:.0f} GFLOP/s bf16 a rank with {} ranks at once -> {}\n", system.name,
                 system.dram.achieved_bytes_per_s / 1e9, system.peak_flops.bf16 / 1e9, world.size,
                 request.out.string());
    }
  });
  return 0;
}

}  // namespace helix
