#include "sweeps/launch/backend_choice.hpp"

#include <fmt/format.h>

#ifdef HELIX_HAS_CUDA
#include "kernels/cuda/open_gpus.hpp"
#endif
#include "roofline/base/error.hpp"

namespace helix {

std::unique_ptr<Backend> make_backend(const std::string& choice, World& world) {
  if (choice != "cpu" && choice != "cuda" && choice != "auto") {
    throw UsageError(fmt::format("--backend {}: valid: cpu, cuda, auto", choice));
  }
#ifdef HELIX_HAS_CUDA
  if (choice == "cuda" || (choice == "auto" && cuda::any_gpu(world.comm))) {
    std::unique_ptr<Backend> backend = cuda::open_gpus(world.comm);
    describe_device(world, *backend);
    return backend;
  }
#else
  if (choice == "cuda") throw UsageError("--backend cuda: this build has no CUDA backend; valid: cpu, auto");
#endif
  return make_cpu_backend(world.threads);
}

}  // namespace helix
