// Helix against the other strategies: at each context and batch, on the same number of ranks, the fastest of each.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "sweeps/report/scenes.hpp"

namespace helix {

/// What one run says of one model, precision and system, on the largest number of ranks that it has rows for.
struct Contest {
  const Run* run = nullptr;
  std::string model, system;
  DType weight_dtype = DType::bf16, kv_dtype = DType::bf16;
  int ranks = 0;
  bool measured = false;
  /// The fastest row of each strategy (as what it counts: counted_as), by context and batch.
  std::map<std::int64_t, std::map<std::int64_t, std::map<Strategy, const ResultRow*>>> fastest;
};

/// By run, model, precision and system; rows within the budget alone.
std::vector<Contest> contests_of(std::span<const Run> runs);

/// "Helix is 1.3 to 1.5 times as fast as tp at 64K tokens; at 4K within the noise": over the batches of each
/// context, the longest first. Empty where nothing is to be compared.
std::string verdict(const Contest& contest);

}  // namespace helix
