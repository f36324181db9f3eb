// Which strategy wins for a context and a batch, and by how much.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "roofline/step/baseline.hpp"
#include "sweeps/report/plot.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr const char* tie = "tie";

Strategy strategy_of(const ResultRow& row) {
  return counted_as(row.config.strategy, row.config.sharding);
}

/// The fields of a run that measured: of each strategy its fastest row.
std::vector<CrossoverField> measured_fields(const Run& run) {
  using Key = std::tuple<std::string, std::int64_t, std::int64_t, int, int, DType, DType>;
  std::map<Key, std::map<Strategy, const ResultRow*>> fastest;
  for (const ResultRow& row : run.rows) {
    if (row.status != Status::ok || !row.within_budget()) continue;
    const DecodeShape& shape = row.config.shape;
    auto& strategies = fastest[{row.config.model, shape.context, shape.batch, row.config.sharding.ranks(),
                                shape.draft_tokens, shape.weight_dtype, shape.kv_dtype}];
    const ResultRow*& best = strategies.try_emplace(strategy_of(row), &row).first->second;
    if (token_us(row) < token_us(*best)) best = &row;
  }
  std::vector<CrossoverField> fields;
  for (const auto& [key, strategies] : fastest) {
    std::vector<const ResultRow*> order;
    for (const auto& [strategy, row] : strategies) order.push_back(row);
    std::ranges::stable_sort(order, {}, [](const ResultRow* row) { return token_us(*row); });
    CrossoverField& field = fields.emplace_back();
    std::tie(field.model, field.context, field.batch, field.ranks, field.draft_tokens, field.weight_dtype,
             field.kv_dtype) = key;
    field.winner = strategy_of(*order.front());
    field.sharding = order.front()->config.sharding;
    field.ttl_us = token_us(*order.front());
    if (order.size() > 1) {
      field.runner_up = strategy_of(*order[1]);
      field.gain = token_us(*order[1]) / field.ttl_us;
      field.tie = within_noise(*order[0], *order[1]);
    }
  }
  return fields;
}

struct Map {
  const Run* run;
  std::vector<CrossoverField>
      fields;  // of one system, model and precision, and either one context or one number of drafts
  bool over_drafts = false;  // of one context and several numbers of drafts
};

template <class Member>
bool differ(const std::vector<CrossoverField>& fields, Member member) {
  return std::ranges::any_of(
      fields, [&](const auto& f) { return std::invoke(member, f) != std::invoke(member, fields.front()); });
}

std::vector<Map> maps_of(std::span<const Run> runs) {
  std::vector<Map> maps;
  for (const Run& run : runs) {
    const auto fields = run.crossover.empty() ? measured_fields(run) : run.crossover;
    const bool over_drafts =
        differ(fields, &CrossoverField::draft_tokens) && !differ(fields, &CrossoverField::context);
    std::map<std::tuple<std::string, std::string, DType, DType, int>, std::vector<CrossoverField>> by_scene;
    for (const CrossoverField& f : fields)
      by_scene[{f.system, f.model, f.weight_dtype, f.kv_dtype, over_drafts ? 0 : f.draft_tokens}].push_back(
          f);
    for (auto& [key, of_scene] : by_scene) {
      const bool compares =
          std::ranges::any_of(of_scene, [](const auto& f) { return f.runner_up.has_value(); });
      if (compares) maps.push_back({&run, std::move(of_scene), over_drafts});
    }
  }
  return maps;
}

std::string shown_winner(const CrossoverField& f) {
  return f.tie ? tie : std::string(name(f.winner));
}

Json values_of(const Map& map) {
  Json values = Json::array();
  for (const CrossoverField& f : map.fields) {
    const std::string winner = shown_winner(f);
    values.push_back({{"context", f.context},
                      {"context_text", token_text(f.context)},
                      {"batch", f.batch},
                      {"drafts", f.draft_tokens},
                      {"ranks", f.ranks},
                      {"winner", winner},
                      // Beside its colour a cell names its winner: not every reader tells colours apart.
                      {"label", f.tie ? "=" : winner},
                      {"below", f.tie         ? ""
                                : f.runner_up ? fmt::format("{:.2f}×", f.gain)
                                              : "alone"},
                      {"fastest", name(f.winner)},
                      {"sharding", sharding_text(f.sharding)},
                      {"ttl", fmt::format("{:.4g} ms", f.ttl_us / 1e3)},
                      {"runner_up", f.runner_up ? std::string(name(*f.runner_up)) : "none"},
                      {"gain", fmt::format("{:.4g}", f.gain)}});
  }
  return values;
}

/// A string of Vega's expressions, which are JavaScript's.
std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace);
}

template <class Member>
Json sorted_values(const Map& map, Member member) {
  std::set<std::int64_t> values;
  for (const CrossoverField& f : map.fields) values.insert(std::invoke(member, f));
  return values;
}

Json winner_scale(const std::vector<Map>& maps) {
  std::set<Strategy> winners;
  bool any_tie = false;
  for (const Map& map : maps) {
    for (const CrossoverField& f : map.fields) {
      if (shown_winner(f) == tie)
        any_tie = true;
      else
        winners.insert(f.winner);
    }
  }
  Json domain = Json::array(), range = Json::array();
  for (const Strategy winner : winners) {
    domain.push_back(name(winner));
    range.push_back(strategy_color(winner));
  }
  if (any_tie) domain.push_back(tie), range.push_back("#C8C8C8");
  return {{"domain", domain}, {"range", range}};
}

}  // namespace

std::optional<Plot> crossover_plot(std::span<const Run> runs) {
  const std::vector<Map> maps = maps_of(runs);
  if (maps.empty()) return std::nullopt;
  std::set<int> ranks;
  for (const Map& map : maps) {
    for (const CrossoverField& f : map.fields) ranks.insert(f.ranks);
  }
  const bool several = std::ranges::any_of(maps, [&](const Map& map) { return map.run != maps.front().run; });
  std::vector<Json> panels;
  for (const Map& map : maps) {
    const CrossoverField& any = map.fields.front();
    const bool cpu = std::ranges::any_of(
        map.run->rows, [](const ResultRow& row) { return row.status == Status::ok && row.backend == "cpu"; });
    const bool on_one_system = std::ranges::all_of(maps, [&](const Map& other) {
      return other.run != map.run || other.fields.front().system == any.system;
    });
    std::string scene = fmt::format("{}{}, {}", any.model, on_one_system ? "" : " on " + any.system,
                                    precision_text(any.weight_dtype, any.kv_dtype));
    if (map.over_drafts) {
      scene += fmt::format(", {} tokens", token_text(any.context));
    } else if (any.draft_tokens > 0) {
      scene += fmt::format(", {} drafted token{}", any.draft_tokens, any.draft_tokens > 1 ? "s" : "");
    }
    // One choice of ranks serves all maps: one that has not so many, or so few, shows the nearest it has.
    const auto [fewest, most] = std::ranges::minmax(map.fields, {}, &CrossoverField::ranks);
    const std::string shown_ranks = fmt::format("clamp(ranks, {}, {})", fewest.ranks, most.ranks);
    Json title = {{"text",
                   {{"expr", fmt::format("{} + {} + {}", quoted(scene + ", "), shown_ranks,
                                         quoted(cpu ? " ranks" : " GPUs"))}}}};
    if (several) title["subtitle"] = map.run->name;
    const Json batches = sorted_values(map, &CrossoverField::batch);
    const Json drafts = {{"field", "drafts"},
                         {"type", "ordinal"},
                         {"title", "drafted tokens a step"},
                         {"scale", {{"domain", sorted_values(map, &CrossoverField::draft_tokens)}}},
                         {"axis", {{"labelAngle", 0}}}};
    const Json contexts = {{"field", "context"},
                           {"type", "ordinal"},
                           {"title", "context, tokens"},
                           {"scale", {{"domain", sorted_values(map, &CrossoverField::context)}}},
                           {"axis",
                            {{"labelAngle", 0},
                             {"labelExpr",
                              "datum.value >= 1048576 && datum.value % 1048576 == 0 ? datum.value / 1048576 "
                              "+ 'M' : datum.value >= 1024 && datum.value % 1024 == 0 ? datum.value / 1024 + "
                              "'K' : '' + datum.value"}}}};
    const Json& x = map.over_drafts ? drafts : contexts;
    const Json y = {{"field", "batch"},
                    {"type", "ordinal"},
                    {"title", "batch, requests"},
                    {"scale", {{"domain", batches}, {"reverse", true}}}};
    Json tooltip = Json::array();
    for (const auto& [field, text] : {std::pair{"fastest", "fastest"},
                                      {"sharding", "sharding"},
                                      {"ttl", "time of a token"},
                                      {"runner_up", "next"},
                                      {"gain", "that of the next / that"},
                                      {"context_text", "context, tokens"},
                                      {"batch", "batch, requests"},
                                      {"drafts", "drafted tokens"},
                                      {"ranks", "ranks"}}) {
      tooltip.push_back({{"field", field}, {"title", text}});
    }
    const auto line = [&](const char* field, int below_middle) {
      return Json{
          {"mark", {{"type", "text"}, {"fontSize", 11}, {"baseline", "middle"}, {"dy", below_middle}}},
          {"encoding",
           {{"x", x},
            {"y", y},
            {"text", {{"field", field}}},
            {"color",
             {{"condition", {{"test", "datum.winner == 'helix'"}, {"value", "white"}}}, {"value", "black"}}},
            {"tooltip", tooltip}}}};
    };
    panels.push_back(
        {{"title", title},
         {"width", {{"step", 46}}},
         {"height", {{"step", std::max<std::size_t>(34, 104 / batches.size())}}},
         {"data", {{"values", values_of(map)}}},
         {"transform", Json::array({{{"filter", "datum.ranks == " + shown_ranks}}})},
         {"layer",
          Json::array(
              {{{"mark", {{"type", "rect"}, {"stroke", "white"}, {"strokeWidth", 1}}},
                {"encoding",
                 {{"x", x},
                  {"y", y},
                  {"color",
                   {{"field", "winner"}, {"title", "fastest strategy"}, {"scale", winner_scale(maps)}}},
                  {"tooltip", tooltip}}}},
               line("label", -7),
               line("below", 7)})}});
  }
  Plot plot{
      .name = "crossover",
      .title = "Which strategy wins where",
      .caption =
          "For each context and batch the strategy with the shortest time of a token on that many ranks, and "
          "how many "
          "times as fast it is as the next one; \"=\" is a difference within the noise: twice the standard "
          "error "
          "of what was measured, 0.5 % of what was predicted; \"alone\" means that no other strategy fits." +
          thinning_note(panels.size()),
      .spec = panel_grid(std::move(panels), 2)};
  Json parameter = {{"name", "ranks"}, {"value", *ranks.rbegin()}};
  if (ranks.size() > 1) parameter["bind"] = {{"input", "select"}, {"options", ranks}, {"name", "ranks "}};
  plot.spec["params"] = Json::array({parameter});
  return plot;
}

}  // namespace helix
