// A whole request of sweep, verify, calibrate or predict: what to run, how precisely, and where
// the results go.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "roofline/system/system_spec.hpp"
#include "sweeps/request/stopping.hpp"
#include "sweeps/request/sweep_space.hpp"
#include "sweeps/results/costs.hpp"

namespace helix {

/// json_lines: an object a line, each as soon as its row is known.
enum class OutputFormat { table, json, csv, json_lines };

/// How a token is drawn.
struct Sampling {
  double temperature = 0;  // 0: the one with the largest logit
  double top_p = 1;        // of the most likely ones those that have so much probability together
  bool greedy() const { return temperature == 0; }
};

struct SweepRequest {
  std::vector<SweepSpace> blocks;
  /// Built-in names, YAML files, or auto: calibrate on start. Empty: the command's own choice.
  std::vector<std::string> systems;
  std::string backend = "auto";  // cpu, cuda, auto
  std::optional<double> ttl_budget_ms;
  std::optional<Engine> engine;  // whose steps to predict; nothing: what suits the system
  Bill bill;
  double memory_fraction = default_memory_fraction;  // of a device, for weights, KV cache and buffers
  StoppingLimits stopping;
  std::uint64_t seed = 1;
  double stall_timeout_s = 120;  // see run_with_mpi

  std::optional<int> as_rank_of;  // run rank 0 of shardings of up to so many ranks, alone

  std::filesystem::path weights;     // directory of a checkpoint; empty: synthetic ones
  std::vector<std::int32_t> prompt;  // of generate, and the text of verify with weights
  std::int64_t max_new_tokens = 32;
  Sampling sampling;

  std::filesystem::path out;  // empty: a new directory under results/
  bool resume = false;
  bool quiet = false;
  OutputFormat output = OutputFormat::table;
  std::vector<std::string> command_line;
};

struct PredictRequest {
  SweepRequest sweep;
  std::filesystem::path validate;  // measured kernels to hold the model against; empty: predict the sweep
  bool bench = false;              // print configurations per second
  std::optional<int> gpus;         // solve for the best use of so many; nothing: predict the sweep
  std::optional<std::size_t> top;  // rows kept of each strategy beside its frontier; nothing: all
};

}  // namespace helix
