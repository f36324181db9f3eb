// What engines run in, one after the other: their memory and weights stay for the next that can use them.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <functional>
#include <string>

#include "kernels/engine/decode_engine.hpp"

namespace helix {

/// One engine to be.
struct EngineRequest {
  Instance instance;
  std::int64_t steps = 0;                 // between rewinds
  double memory_bytes = 0;                // what all of it takes on the busiest rank
  const WeightSource* weights = nullptr;  // null: synthetic ones
  bool alone = false;                     // rank 0, without the others
};

class EngineHost {
 public:
  /// `memory_bytes`: what a rank may take.
  EngineHost(Backend& backend, std::size_t memory_bytes)
      : backend_(backend), memory_bytes_(memory_bytes), weights_(backend) {}

  /// Makes room for such caches, so that they are mapped once.
  void reserve(const CacheBytes& caches);

  /// Sets the engine up on the ranks of `instance` (the one that is alone) and calls work(engine) on each; collective over them.
  /// Returns why some rank could not take its memory or make its weights, the same text on every rank: then
  /// `work` was not called, all memory is given back, and the host is good for other engines.
  std::string run(const EngineRequest& request, MPI_Comm instance,
                  const std::function<void(DecodeEngine&)>& work);

 private:
  void take_memory(const EngineRequest& request, int rank);

  Backend& backend_;
  std::size_t memory_bytes_;
  EngineMemory memory_;
  WeightStore weights_;
};

}  // namespace helix
