#include "sweeps/measure/engine_host.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <new>

#include "kernels/comm/lone_communicator.hpp"
#include "kernels/comm/rank_groups.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/broadcast.hpp"

namespace helix {

void EngineHost::reserve(const CacheBytes& caches) {
  ensure(backend_, memory_.kv, caches.kv);
  if (caches.index_keys > 0) ensure(backend_, memory_.index_keys, caches.index_keys);
}

void EngineHost::take_memory(const EngineRequest& request, int rank) {
  const RankPlan plan(request.instance, rank);
  const CacheBytes caches = DecodeEngine::cache_bytes(plan, request.steps, backend_);
  // What earlier engines left must not push this one past its share of the node.
  const auto surplus = [](const std::unique_ptr<Buffer>& held, std::size_t bytes) {
    return held ? static_cast<double>(std::max(held->bytes(), bytes) - bytes) : 0;
  };
  if (request.memory_bytes + surplus(memory_.kv, caches.kv) + surplus(memory_.index_keys, caches.index_keys) >
      static_cast<double>(memory_bytes_)) {
    memory_.kv.reset();
    memory_.index_keys.reset();
  }
  working_on("loading weights");
  weights_.load(plan, request.weights);
  reserve(caches);
}

std::string EngineHost::run(const EngineRequest& request, MPI_Comm instance,
                            const std::function<void(DecodeEngine&)>& work) {
  const Sharding& sharding = request.instance.sharding();
  const Groups groups =
      request.alone ? lone_groups(backend_, sharding) : make_groups(backend_, instance, sharding);
  // Ranks do not wait for each other while they take their memory, so that one of them may fail alone.
  std::string problem;
  try {
    take_memory(request, groups.rank());
  } catch (const std::bad_alloc&) {
    problem = fmt::format("rank {} did not get its memory: the engine takes up to {:.0f} bytes per rank",
                          groups.rank(), request.memory_bytes);
  } catch (const std::exception& error) {
    problem = fmt::format("rank {}: {}", groups.rank(), error.what());
  }
  problem = agree_on_failure(problem, instance);
  if (!problem.empty()) {
    weights_.release();
    memory_ = {};
    return problem;
  }
  working_on("filling the KV cache");
  DecodeEngine engine(request.instance, request.steps, backend_, groups, weights_, memory_);
  work(engine);
  return {};
}

}  // namespace helix
