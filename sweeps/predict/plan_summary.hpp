// What a sweep of predictions comes to, in bounded memory: frontiers, the answers to a TTL budget, and which
// strategy wins where.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>
#include <utility>
#include <vector>

#include "roofline/cost/pareto.hpp"
#include "sweeps/request/enumerate.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

class PlanSummary {
 public:
  /// `top`: rows kept of each strategy beside its frontier; nothing: all.
  PlanSummary(std::optional<double> ttl_budget_ms, std::optional<std::size_t> top)
      : budget_ms_(ttl_budget_ms), top_(top) {}

  /// A configuration that fits, its model and system alive as long as this; `ordinal` numbers them in the
  /// order of the sweep. What is beyond the budget only counts for fastest().
  void add(std::size_t ordinal, const SweepPoint& point, std::string_view system,
           const Prediction& prediction);
  /// Call once after the last point.
  void close();

  bool on_frontier(std::size_t ordinal) const { return frontier_.contains(ordinal); }
  bool is_kept(std::size_t ordinal) const { return !top_ || kept_.contains(ordinal) || on_frontier(ordinal); }
  /// Of each strategy the configuration with the most tokens/s/GPU within the budget, for each system, model,
  /// context and precision. A layout counts for the baseline that it equals.
  std::vector<std::size_t> budget_answers() const;
  /// The least time per token of all configurations, whatever the budget; 0 if there are none.
  double fastest_ttl_us() const { return fastest_ttl_us_; }
  std::size_t frontier_size() const { return frontier_.size(); }

  /// CSV: for each system, model, context, batch, number of ranks, drafted tokens and precision the fastest strategy within
  /// the budget, the next one and the gain. At equal batch and ranks the fastest serves the most
  /// tokens/s/GPU, too.
  std::string crossover_csv() const;

 private:
  // system, model, context, weights, KV
  using Scene = std::tuple<std::string_view, std::string_view, std::int64_t, DType, DType>;
  struct Best {
    double figure = 0;  // 0: none yet
    std::size_t ordinal = 0;
  };
  struct Fastest {
    double ttl_us = 0;  // 0: none yet
    Sharding sharding;
    int hop_b = 1;
  };
  using Field = std::tuple<Scene, std::int64_t, int, int>;  // batch, ranks, drafted tokens
  using Smallest = std::priority_queue<std::pair<double, std::size_t>,
                                       std::vector<std::pair<double, std::size_t>>, std::greater<>>;

  std::optional<double> budget_ms_;
  std::optional<std::size_t> top_;
  double fastest_ttl_us_ = 0;
  std::map<Scene, ParetoFrontier> frontiers_;
  std::map<std::pair<Scene, std::size_t>, ParetoFrontier> strategy_frontiers_;
  std::map<Scene, std::array<Best, strategy_count>> within_budget_;
  std::map<Field, std::array<Fastest, strategy_count>> fields_;
  std::array<Smallest, strategy_count> best_rows_;
  std::unordered_set<std::size_t> frontier_, kept_;
};

}  // namespace helix
