// What one panel of a plot shows: the rows of a run that compare with one another.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sweeps/results/noise.hpp"
#include "sweeps/results/run_reader.hpp"

namespace helix {

/// The ok rows of one run, system, model, context and precision.
struct Scene {
  const Run* run = nullptr;
  std::string model;
  std::int64_t context = 0;
  DType weight_dtype = DType::bf16, kv_dtype = DType::bf16;
  std::vector<const ResultRow*> rows;  // by batch, the fastest first
  std::string system{};                // of a prediction that compares several
};

/// By model, context, precision and system, the same scene of several runs side by side.
std::vector<Scene> scenes_of(std::span<const Run> runs);

/// "deepseek-r1, 1M tokens, fp4/fp8".
std::string scene_title(const Scene& scene);

/// At most `most` entries, evenly over all; the first and the last stay.
template <class T>
std::vector<T> thinned(const std::vector<T>& entries, std::size_t most) {
  if (entries.size() <= most) return entries;
  std::vector<T> kept;
  for (std::size_t i = 0; i < most; ++i) kept.push_back(entries[i * (entries.size() - 1) / (most - 1)]);
  return kept;
}

/// The rows of a scene that a plot with one line for each row has room for: all, else the frontier and of
/// each strategy the rows with the most tokens/s/user and tokens/s/GPU, else evenly some of these.
std::vector<const ResultRow*> rows_for_lines(const Scene& scene, std::size_t most);

}  // namespace helix
