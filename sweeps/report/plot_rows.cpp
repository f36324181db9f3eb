// The two plots with a line for each row: roofline fractions, and where the time of a step goes.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "sweeps/report/plot.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr std::size_t most_lines = 12;             // of a panel
constexpr int line_height = 22, line_width = 300;  // pixels

std::string line_label(const ResultRow& row) {
  return fmt::format("batch {}, {}, {}", row.config.shape.batch, name(row.config.strategy),
                     sharding_text(row.config));
}

std::string lines_note(const std::vector<Scene>& scenes) {
  const bool all =
      std::ranges::all_of(scenes, [](const Scene& scene) { return scene.rows.size() <= most_lines; });
  return all ? ""
             : fmt::format(" Of a panel with more than {} rows: the frontier and the best of each strategy.",
                           most_lines);
}

/// One line for each row, in the order of the data.
Json line_axis() {
  return {{"field", "line"}, {"type", "nominal"}, {"sort", nullptr}, {"title", nullptr}};
}

Json of_source(const char* source) {
  return Json::array({{{"filter", fmt::format("datum.source == '{}'", source)}}});
}

/// A picture on a slide has no caption.
std::string axis_title(std::string_view quantity, bool any_measured, std::string_view measured,
                       std::string_view model) {
  return any_measured ? fmt::format("{} ({}: measured, {}: model)", quantity, measured, model)
                      : fmt::format("{} (model)", quantity);
}

/// Two panels beside one another as long as their labels leave a page room for them: an axis gives a
/// character about six pixels.
std::size_t panel_columns(const std::vector<Scene>& scenes) {
  constexpr std::size_t longest = 40;
  for (const Scene& scene : scenes) {
    for (const ResultRow* row : rows_for_lines(scene, most_lines)) {
      if (line_label(*row).size() > longest) return 1;
    }
  }
  return 2;
}

bool any_measured(const Scene& scene) {
  return std::ranges::any_of(scene.rows, [](const ResultRow* row) { return row->measurement.has_value(); });
}

// --- Roofline fraction -------------------------------------------------------------------------------------

Json fraction_values(const std::vector<const ResultRow*>& rows, double& largest) {
  Json values = Json::array();
  for (const ResultRow* row : rows) {
    if (!row->prediction) continue;
    const auto add = [&](const char* source, double ttl) {
      const double fraction = row->prediction->roofline_ttl_us / ttl;
      if (!(fraction > 0)) return;
      largest = std::max(largest, fraction);
      Json datum = {{"line", line_label(*row)}, {"fraction", fraction}, {"source", source}};
      datum["labelled"] = source == std::string_view("measured") || !row->measurement;
      add_configuration(datum, *row);
      values.push_back(std::move(datum));
    };
    if (row->measurement) add("measured", row->measurement->ttl_us);
    add("model", row->prediction->model_ttl_us);
  }
  return values;
}

// --- Phases ------------------------------------------------------------------------------------------------

/// What measured and predicted rows of a results.csv both tell apart: its model columns have one sum
/// for both all-reduces.
struct PhaseGroup {
  const char *label, *color;
  std::array<std::optional<Phase>, 2> phases;
};
constexpr std::array phase_groups = {
    PhaseGroup{"attention", "#0072B2", {Phase::attn}},
    PhaseGroup{"projections", "#56B4E9", {Phase::attn_proj}},
    PhaseGroup{"merge", "#CC79A7", {Phase::merge}},
    PhaseGroup{"all-to-all", "#D55E00", {Phase::a2a}},
    PhaseGroup{"all-reduces", "#E69F00", {Phase::attn_allreduce, Phase::ffn_comm}},
    PhaseGroup{"FFN", "#009E73", {Phase::ffn}},
    PhaseGroup{"head", "#8C8C8C", {Phase::head}},
};

double group_us(const PhaseGroup& group, const PhaseTimes& times) {
  double sum = 0;
  for (const auto& phase : group.phases) sum += phase ? times[*phase] : 0.0;
  return std::max(sum, 0.0);
}

void add_phases(Json& values, const ResultRow& row, const char* source, const PhaseTimes& times) {
  for (std::size_t i = 0; i < phase_groups.size(); ++i) {
    const double us = group_us(phase_groups[i], times);
    if (us <= 0) continue;
    Json datum = {{"line", line_label(row)},
                  {"source", source},
                  {"phase", phase_groups[i].label},
                  {"position", i},
                  {"ms", us / 1e3},
                  {"share", fmt::format("{:.1f} %", 100 * us / times.total())}};
    add_configuration(datum, row);
    values.push_back(std::move(datum));
  }
}

}  // namespace

Plot roofline_plot(const std::vector<Scene>& scenes) {
  std::vector<Json> values;
  double largest = 1;
  for (const Scene& scene : scenes) {
    values.push_back(fraction_values(rows_for_lines(scene, most_lines), largest));
  }
  const Json color = {{"field", "strategy"}, {"title", "strategy"}, {"scale", strategy_color_scale(scenes)}};
  const Json shape = {{"field", "strategy"}, {"title", "strategy"}, {"scale", strategy_shape_scale(scenes)}};
  std::vector<Json> panels;
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    if (values[i].empty()) continue;
    const Json x = {{"field", "fraction"},
                    {"type", "quantitative"},
                    {"title", axis_title("roofline TTL / TTL", any_measured(scenes[i]), "filled", "hollow")},
                    {"scale", {{"domain", Json::array({0, largest * 1.05})}, {"nice", false}}},
                    {"axis", {{"format", "%"}, {"tickCount", 6}}}};
    const Json points = {{"x", x},
                         {"y", line_axis()},
                         {"color", color},
                         {"shape", shape},
                         {"tooltip", configuration_tooltip()}};
    panels.push_back(
        {{"title", panel_title(scenes[i], several_runs(scenes))},
         {"width", line_width},
         {"height", {{"step", line_height}}},
         {"data", {{"values", values[i]}}},
         {"layer",
          Json::array(
              {{{"data", {{"values", Json::array({Json::object()})}}},
                {"mark", {{"type", "rule"}, {"strokeDash", Json::array({4, 3})}}},
                {"encoding", {{"x", {{"datum", 1}, {"type", "quantitative"}}}}}},
               {{"transform", of_source("model")},
                {"mark", {{"type", "point"}, {"filled", false}, {"size", 60}, {"opacity", 1}}},
                {"encoding", points}},
               {{"transform", of_source("measured")},
                {"mark", {{"type", "point"}, {"filled", true}, {"size", 75}, {"opacity", 1}}},
                {"encoding", points}},
               {{"transform", Json::array({{{"filter", "datum.labelled"}}})},
                {"mark", {{"type", "text"}, {"align", "left"}, {"fontSize", 10}, {"x", line_width + 6}}},
                {"encoding",
                 {{"y", line_axis()},
                  {"text", {{"field", "fraction"}, {"type", "quantitative"}, {"format", ".1%"}}}}}}})}});
  }
  return {.name = "roofline",
          .title = "Roofline fraction",
          .caption =
              "How near each step comes to what DRAM allows: the bytes that the busiest rank must read / the "
              "system's bandwidth, divided by the time. Filled marks and the numbers are measured; hollow "
              "marks are what the model expects." +
              lines_note(scenes) + thinning_note(panels.size()),
          .spec = panel_grid(std::move(panels), panel_columns(scenes))};
}

Plot phases_plot(const std::vector<Scene>& scenes) {
  Json domain = Json::array(), range = Json::array();
  for (const PhaseGroup& group : phase_groups) {
    domain.push_back(group.label);
    range.push_back(group.color);
  }
  std::vector<Json> panels;
  for (const Scene& scene : scenes) {
    Json values = Json::array();
    bool any_model = false;
    for (const ResultRow* row : rows_for_lines(scene, most_lines)) {
      if (row->measurement) {
        add_phases(values, *row, "measured", row->measurement->phases);
        Json whole = {
            {"line", line_label(*row)}, {"source", "whole step"}, {"ms", row->measurement->ttl_us / 1e3}};
        values.push_back(std::move(whole));
      }
      if (row->prediction) add_phases(values, *row, "model", row->prediction->phases);
      any_model |= row->prediction.has_value();
    }
    if (values.empty()) continue;
    Json sources = Json::array();
    const bool measured = any_measured(scene);
    if (measured) sources.push_back("measured");
    if (any_model) sources.push_back("model");
    const int bars = static_cast<int>(sources.size());

    Json tooltip = Json::array({{{"field", "phase"}, {"title", "phase"}},
                                {{"field", "ms"}, {"title", "ms"}, {"format", ".4~g"}},
                                {{"field", "share"}, {"title", "of the step"}},
                                {{"field", "source"}, {"title", "source"}}});
    for (const Json& entry : configuration_tooltip()) tooltip.push_back(entry);
    const Json x = {{"field", "ms"},
                    {"type", "quantitative"},
                    {"title", axis_title("ms per decode step", measured, "full", "faint")},
                    {"axis", {{"format", ".6~r"}, {"tickCount", 6}}}};
    const Json offset = {{"field", "source"}, {"scale", {{"domain", sources}, {"paddingInner", 0.12}}}};
    const Json bar = {
        {"x", x},
        {"y", line_axis()},
        {"yOffset", offset},
        {"color",
         {{"field", "phase"}, {"title", "phase"}, {"scale", {{"domain", domain}, {"range", range}}}}},
        {"order", {{"field", "position"}}},
        {"tooltip", tooltip}};
    Json layers = Json::array();
    if (measured) {
      layers.push_back(
          {{"transform", of_source("measured")}, {"mark", {{"type", "bar"}}}, {"encoding", bar}});
    }
    if (any_model) {
      layers.push_back({{"transform", of_source("model")},
                        {"mark", {{"type", "bar"}, {"opacity", measured ? 0.55 : 1.0}}},
                        {"encoding", bar}});
    }
    if (measured) {
      layers.push_back({{"transform", of_source("whole step")},
                        {"mark", {{"type", "tick"}, {"thickness", 2}, {"size", line_height - 3}}},
                        {"encoding", {{"x", x}, {"y", line_axis()}}}});
    }
    panels.push_back(
        {{"title", panel_title(scene, several_runs(scenes))},
         {"width", line_width},
         {"height", {{"step", bars > 1 ? line_height + 4 : line_height - 4}, {"for", "position"}}},
         {"data", {{"values", values}}},
         {"layer", layers}});
  }
  return {
      .name = "phases",
      .title = "Where the time of a step goes",
      .caption =
          "Of each row the upper, full bar is measured (in an instrumented pass of its own; the upright tick "
          "is the whole step's time without instruments), the lower, fainter bar predicted. Rows of "
          "predictions have the predicted bar alone." +
          lines_note(scenes) + thinning_note(panels.size()),
      .spec = panel_grid(std::move(panels), panel_columns(scenes))};
}

}  // namespace helix
