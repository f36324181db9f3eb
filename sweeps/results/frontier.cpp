#include "sweeps/results/frontier.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>

#include "roofline/cost/pareto.hpp"
#include "sweeps/results/noise.hpp"
#include "sweeps/results/result_columns.hpp"

namespace helix {
namespace {

/// Whether `winner` is better in both rates by more than two measurements of the same may differ.
bool clearly_beats(const ResultRow& winner, const ResultRow& row) {
  const double lead = std::min(tokens_per_s_user(winner) / tokens_per_s_user(row),
                               tokens_per_s_gpu(winner) / tokens_per_s_gpu(row));
  return std::log(lead) >= telling_difference(winner, row);
}

}  // namespace

void mark_pareto(std::vector<ResultRow>& rows) {
  using Group = std::tuple<std::string, std::string, std::int64_t, DType, DType>;
  std::map<Group, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].pareto = rows[i].pareto_tie = false;
    const DecodeShape& shape = rows[i].config.shape;
    if (rows[i].status != Status::ok || !rows[i].within_budget() || tokens_per_s_user(rows[i]) <= 0) continue;
    // A measured run has one system, whose name depends on the number of ranks that were calibrated.
    const std::string system = rows[i].measurement ? "" : rows[i].system;
    groups[{rows[i].config.model, system, shape.context, shape.weight_dtype, shape.kv_dtype}].push_back(i);
  }
  for (const auto& [group, members] : groups) {
    std::vector<ParetoPoint> points;
    for (const std::size_t i : members)
      points.push_back({tokens_per_s_user(rows[i]), tokens_per_s_gpu(rows[i])});
    const std::vector<std::size_t> front = pareto_front(points);
    for (const std::size_t on_front : front) rows[members[on_front]].pareto = true;
    for (const std::size_t i : members) {
      if (rows[i].pareto || !rows[i].measurement) continue;
      rows[i].pareto_tie = std::ranges::none_of(
          front, [&](const std::size_t on_front) { return clearly_beats(rows[members[on_front]], rows[i]); });
    }
  }
}

}  // namespace helix
