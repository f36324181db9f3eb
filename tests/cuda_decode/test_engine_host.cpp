// A rank that does not get its memory costs its point, not the run.
#include <catch2/catch.hpp>
#include <new>

#include "cuda_decode/asynchronous_backend.hpp"
#include "mpi/rank.hpp"
#include "sweeps/measure/engine_host.hpp"

namespace helix {
namespace {

/// Has a limit to what it gives at once.
class LimitedBackend final : public testing::EmulatedBackend {
 public:
  LimitedBackend() : EmulatedBackend(cuda::kDatacentreGpu, Writers::kernels_and_mpi) {}
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    if (bytes > limit) throw std::bad_alloc();
    return EmulatedBackend::allocate(bytes);
  }
  std::size_t limit = std::size_t{1} << 40;
};

}  // namespace

TEST_CASE("a rank without memory fails its point on every rank, and the next point runs") {
  const ModelSpec model = load_model("tiny-gqa");
  const int ranks = world_size();
  const Sharding sharding{.kvp = ranks, .tpf = ranks};
  const DecodeShape shape{.context = 32, .batch = 1, .tokens_per_block = 4};
  LimitedBackend backend;
  EngineHost host(backend, std::size_t{1} << 30);
  const EngineRequest request{legal_instance(model, sharding, shape, 1), 1, 12345};
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const auto attempt = [&] {
    bool worked = false;
    const std::string problem = host.run(request, MPI_COMM_WORLD, [&](DecodeEngine& engine) {
      worked = verify(engine, {.layers = {0}, .max_requests = 1}, MPI_COMM_WORLD).ok();
    });
    CHECK(worked == problem.empty());
    return problem;
  };
  CHECK(attempt().empty());
  // The last rank alone does not get a larger cache than the one it has, of which it gives back all.
  if (rank == ranks - 1) backend.limit = 0;
  DecodeShape longer = shape;
  longer.context = 4096;
  const EngineRequest larger{legal_instance(model, sharding, longer, 1), 1, 12345};
  const std::string problem =
      host.run(larger, MPI_COMM_WORLD, [](DecodeEngine&) { FAIL_CHECK("no memory"); });
  CHECK_THAT(problem, Catch::Contains("rank " + std::to_string(ranks - 1) + " did not get its memory"));
  CHECK_THAT(problem, Catch::Contains("12345 bytes"));
  // Nor, then, its weights.
  CHECK_FALSE(attempt().empty());
  backend.limit = std::size_t{1} << 40;
  CHECK(attempt().empty());
}

}  // namespace helix
