// The picture that a report opens with: time per token over the context, a line for each strategy.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "sweeps/report/contests.hpp"
#include "sweeps/report/plot.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr std::size_t most_answers = 6;  // panels: what a slide holds

/// The smallest and the largest batch with rows of two strategies at two contexts and more.
std::vector<std::int64_t> shown_batches(const Contest& contest) {
  std::map<std::int64_t, int> contexts;
  for (const auto& [context, batches] : contest.fastest) {
    for (const auto& [batch, strategies] : batches) contexts[batch] += strategies.size() > 1;
  }
  std::erase_if(contexts, [](const auto& entry) { return entry.second < 2; });
  if (contexts.empty()) return {};
  const std::int64_t least = contexts.begin()->first, most = contexts.rbegin()->first;
  return least == most ? std::vector{least} : std::vector{least, most};
}

Json values_of(const Contest& contest, std::int64_t batch) {
  Json values = Json::array();
  for (const auto& [context, batches] : contest.fastest) {
    const auto at = batches.find(batch);
    if (at == batches.end()) continue;
    for (const auto& [strategy, row] : at->second) {
      // Two standard errors: what the median of another run would lie within.
      const double ms = token_us(*row) / 1e3,
                   error = row->measurement ? 2 * relative_error(*row->measurement) : 0;
      Json datum = {{"ms", ms}, {"low", ms / (1 + error)}, {"high", ms * (1 + error)}};
      add_configuration(datum, *row);
      datum["strategy"] = name(strategy);
      values.push_back(std::move(datum));
    }
  }
  return values;
}

Json panel(const Contest& contest, std::int64_t batch, const Json& scale, const Json& shapes,
           bool runs_differ) {
  Json contexts = Json::array();
  for (const auto& [context, batches] : contest.fastest) {
    if (batches.contains(batch)) contexts.push_back(token_text(context));
  }
  const std::string where = contest.measured
                                ? fmt::format("measured on {} ranks", contest.ranks)
                                : fmt::format("predicted for {} x {}", contest.ranks, contest.system);
  Json title = {{"text", fmt::format("{}, {}, batch {}", contest.model,
                                     precision_text(contest.weight_dtype, contest.kv_dtype), batch)},
                {"subtitle", where + (runs_differ ? ", " + contest.run->name : "")}};
  const Json x = {{"field", "context"},
                  {"type", "ordinal"},
                  {"title", "context, tokens"},
                  {"scale", {{"domain", contexts}}},
                  {"axis", {{"labelAngle", 0}, {"grid", true}}}};
  const Json values = values_of(contest, batch);
  double low = INFINITY, high = 0;
  for (const Json& datum : values) {
    low = std::min(low, datum["low"].get<double>());
    high = std::max(high, datum["high"].get<double>());
  }
  const double room = std::pow(std::max(high / low, 1.5), 0.1);  // a tenth of the axis above and below
  const Json y = {
      {"field", "ms"},
      {"type", "quantitative"},
      {"title", "ms per token"},
      {"scale", {{"type", "log"}, {"nice", false}, {"domain", Json::array({low / room, high * room})}}},
      {"axis", {{"format", ".6~r"}, {"tickCount", 5}}}};
  const Json color = {{"field", "strategy"}, {"title", "strategy"}, {"scale", scale}};
  const Json place = {{"x", x}, {"y", y}, {"color", color}};
  Json points = place;
  points["shape"] = {{"field", "strategy"}, {"title", "strategy"}, {"scale", shapes}};
  points["tooltip"] = configuration_tooltip();
  Json bars = {{"x", x}, {"y", y}, {"y2", {{"field", "high"}}}, {"color", color}};
  bars["y"]["field"] = "low";
  return {{"title", title},
          {"width", 390},
          {"height", 250},
          {"data", {{"values", values}}},
          {"layer",
           Json::array(
               {{{"mark", {{"type", "line"}, {"strokeWidth", 2.2}}}, {"encoding", place}},
                {{"mark", {{"type", "rule"}, {"strokeWidth", 1.5}}}, {"encoding", bars}},
                {{"mark", {{"type", "point"}, {"filled", contest.measured}, {"size", 80}, {"opacity", 1}}},
                 {"encoding", points}}})}};
}

}  // namespace

std::optional<Plot> answer_plot(std::span<const Run> runs, const std::vector<Scene>& scenes) {
  const Json colors = strategy_color_scale(scenes), shapes = strategy_shape_scale(scenes);
  std::vector<Json> panels;
  for (const Contest& contest : contests_of(runs)) {
    for (const std::int64_t batch : shown_batches(contest)) {
      if (panels.size() < most_answers)
        panels.push_back(panel(contest, batch, colors, shapes, several_runs(scenes)));
    }
  }
  if (panels.empty()) return std::nullopt;
  return Plot{.name = "answer",
              .title = "Time per token over the context",
              .caption =
                  "Of each strategy the fastest sharding of the same ranks, at the smallest and the largest "
                  "batch that strategies can be compared at. Bars are two standard errors of a measured "
                  "median; hollow marks are predicted.",
              .spec = panel_grid(std::move(panels), 2)};
}

}  // namespace helix
