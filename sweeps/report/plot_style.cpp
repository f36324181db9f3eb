#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "sweeps/report/plot.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

Json strategy_scale(const std::vector<Scene>& scenes, const char* StrategyTraits::*member) {
  std::set<Strategy> present;
  for (const Scene& scene : scenes) {
    for (const ResultRow* row : scene.rows) present.insert(row->config.strategy);
  }
  Json domain = Json::array(), range = Json::array();
  for (const StrategyTraits& row : strategies()) {
    if (!present.contains(row.strategy)) continue;
    domain.push_back(row.name);
    range.push_back(row.*member);
  }
  return {{"domain", domain}, {"range", range}};
}

}  // namespace

std::string strategy_color(Strategy strategy) {
  return traits(strategy).color;
}
Json strategy_color_scale(const std::vector<Scene>& scenes) {
  return strategy_scale(scenes, &StrategyTraits::color);
}
Json strategy_shape_scale(const std::vector<Scene>& scenes) {
  return strategy_scale(scenes, &StrategyTraits::marker);
}

Json plot_theme(bool dark) {
  const char* ink = dark ? "#e6e6e6" : "#1f1f1f";
  const char* faint = dark ? "#3a3f47" : "#dddddd";
  const char* muted = dark ? "#b3b8bf" : "#4a4a4a";
  const char* paper = dark ? "#14171c" : "#ffffff";
  return {{"background", paper},
          {"font", "Liberation Sans, Arial, Helvetica, DejaVu Sans, sans-serif"},
          {"view", {{"stroke", faint}}},
          {"axis",
           {{"labelColor", muted},
            {"titleColor", ink},
            {"gridColor", faint},
            {"domainColor", muted},
            {"tickColor", muted},
            {"labelFontSize", 11},
            {"titleFontSize", 12},
            {"titleFontWeight", "normal"},
            {"labelLimit", 330},
            {"labelOverlap", true},
            {"labelSeparation", 6}}},
          {"legend",
           {{"labelColor", ink},
            {"titleColor", ink},
            {"labelFontSize", 12},
            {"titleFontSize", 12},
            {"titleFontWeight", "normal"},
            {"symbolStrokeColor", ink},
            {"symbolOpacity", 1},
            {"orient", "top"},
            {"labelLimit", 400}}},
          {"title",
           {{"color", ink}, {"subtitleColor", muted}, {"fontSize", 13}, {"anchor", "start"}, {"limit", 460}}},
          {"text", {{"color", ink}}},
          {"rule", {{"color", muted}}},
          {"tick", {{"color", ink}, {"opacity", 1}}}};
}

Json panel_grid(std::vector<Json> panels, std::size_t columns) {
  panels = thinned(panels, most_panels);
  if (panels.size() == 4) columns = 2;
  return {
      {"concat", panels},
      {"columns", columns},
      {"spacing", {{"row", 34}, {"column", 34}}},
      {"resolve",
       {{"scale",
         {{"color", "shared"}, {"shape", "shared"}, {"strokeDash", "shared"}, {"yOffset", "independent"}}},
        {"legend", {{"color", "shared"}, {"shape", "shared"}, {"strokeDash", "shared"}}}}}};
}

std::string thinning_note(std::size_t panels) {
  if (panels <= most_panels) return "";
  return fmt::format(" {} of {} panels are shown, evenly over all.", most_panels, panels);
}

bool several_runs(const std::vector<Scene>& scenes) {
  return std::ranges::any_of(scenes, [&](const Scene& scene) { return scene.run != scenes.front().run; });
}

Json panel_title(const Scene& scene, bool with_run) {
  Json title = {{"text", scene_title(scene)}};
  if (with_run) title["subtitle"] = scene.run->name;
  return title;
}

void add_configuration(Json& datum, const ResultRow& row) {
  const DecodeShape& shape = row.config.shape;
  datum["strategy"] = name(row.config.strategy);
  datum["configuration"] = sharding_text(row.config);
  datum["ranks"] = row.config.sharding.ranks();
  datum["model"] = row.config.model;
  datum["context"] = token_text(shape.context);
  datum["batch"] = shape.batch;
  datum["precision"] = precision_text(shape.weight_dtype, shape.kv_dtype);
  if (row.measurement) datum["ttl"] = fmt::format("{:.4g} ms", row.measurement->ttl_us / 1e3);
  if (row.prediction) datum["model_ttl"] = fmt::format("{:.4g} ms", row.prediction->model_ttl_us / 1e3);
  datum["system"] = row.system;
  datum["id"] = row.id;
}

Json configuration_tooltip() {
  Json tooltip = Json::array();
  for (const auto& [field, title] : {std::pair{"strategy", "strategy"},
                                     {"configuration", "sharding"},
                                     {"ranks", "ranks"},
                                     {"model", "model"},
                                     {"context", "context, tokens"},
                                     {"batch", "batch, requests"},
                                     {"precision", "weights/KV"},
                                     {"ttl", "TTL, measured"},
                                     {"model_ttl", "TTL, model"},
                                     {"system", "system"},
                                     {"id", "id"}}) {
    tooltip.push_back({{"field", field}, {"title", title}});
  }
  return tooltip;
}

std::vector<Plot> report_plots(std::span<const Run> runs) {
  const std::vector<Scene> scenes = scenes_of(runs);
  if (scenes.empty()) return {};
  std::vector<Plot> plots;
  if (auto answer = answer_plot(runs, scenes)) plots.push_back(*std::move(answer));
  plots.insert(plots.end(), {pareto_plot(scenes), roofline_plot(scenes), phases_plot(scenes)});
  if (auto crossover = crossover_plot(runs)) plots.push_back(*std::move(crossover));
  return plots;
}

}  // namespace helix
