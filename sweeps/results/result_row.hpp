// One configuration and everything known about it: a row of results.csv.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "roofline/cost/predict.hpp"
#include "roofline/step/model_facts.hpp"
#include "roofline/step/sharding.hpp"
#include "sweeps/results/status.hpp"

namespace helix {

/// One point of a sweep.
struct Configuration {
  std::string model;
  Strategy strategy = Strategy::helix;
  Sharding sharding;
  DecodeShape shape;
  std::int64_t layers = 0;  // layers to measure, scaled to the model's depth; 0: all of the model
  /// The types of the weights' parts and where they come from: precision_of_parts, WeightRequest::source.
  std::string precision{}, precision_source{};
  std::string draft_head{};  // that makes the drafts, "": the model's own draft layer, if any
};

/// Why sampling of a row ended.
enum class StopReason { converged, plateau, max_time };

struct Measurement {
  std::size_t samples = 0;
  /// Slowest rank's time of each step, scaled to the model's full depth; empty in a row read back
  /// from a file.
  std::vector<double> samples_us;
  double ttl_us = 0, ttl_p90_us = 0, ttl_p99_us = 0, ttl_min_us = 0, ttl_rel_stderr = 0;
  PhaseTimes phases;  // of instrumented steps, scaled likewise
  double exposed_comm_us = 0;
  StopReason stop = StopReason::converged;
  std::optional<double> device_watts{};  // of a rank's device in the mean while it was sampled
};

/// Of a rank that ran without the others of its sharding.
struct RankShare {
  Measurement compute;     // its times are those of computing; phases of exchange are 0
  double exchange_us = 0;  // between all ranks, as far as nothing hides it: predicted
  double composed_us() const { return compute.ttl_us + exchange_us; }
};

struct ResultRow {
  std::string
      id;  // stable: made from the configuration, e.g. "llama-3.2-1b/helix/kvp2.tpa1.tpf2.ep1/s65536/b4/..."
  Configuration config;
  Status status = Status::ok;
  std::string
      reason;  // skipped, failed, wrong; for an ok row a caveat ("cache-resident: ...", "oversubscribed:
               // ...") or empty
  std::string system, backend, kernel;
  std::int64_t layers_measured = 0, layers_total = 0;
  std::optional<ModelFigures> figures;
  std::optional<Prediction> prediction;
  std::optional<Measurement> measurement;
  std::optional<RankShare> share;  // instead of it, where the status is one_rank
  std::optional<double> verify_rel_error;
  /// Whether the token-to-token latency, measured or else predicted, is within the request's budget; nothing
  /// without a budget or a latency.
  std::optional<bool> meets_budget;
  std::optional<double> usd_per_mtok, joules_per_token;
  bool pareto = false;
  bool pareto_tie = false;  // not on the frontier, but only by what the noise of two measurements may be

  /// What was sampled of its step, all of it or one rank's share; null: nothing.
  const Measurement* sampled() const {
    return share ? &share->compute : measurement ? &*measurement : nullptr;
  }
  /// Frontier, crossover and what is printed only know such rows.
  bool within_budget() const { return meets_budget.value_or(true); }
};

}  // namespace helix
