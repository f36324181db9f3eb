#include "sweeps/backend_choice.hpp"

#include <fmt/format.h>

#include "roofline/error.hpp"

namespace helix {

std::unique_ptr<Backend> make_backend(const std::string& choice, int threads) {
  if (choice == "cpu" || choice == "auto") return make_cpu_backend(threads);
  if (choice == "cuda") throw UsageError("--backend cuda: this build has no CUDA backend; valid: cpu, auto");
  throw UsageError(fmt::format("--backend {}: valid: cpu, cuda, auto", choice));
}

}  // namespace helix
