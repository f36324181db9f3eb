// The plots of a report as Vega-Lite specifications: the page, SVG and PNG are drawn from the same.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sweeps/report/scenes.hpp"

namespace helix {

using Json = nlohmann::ordered_json;

struct Plot {
  std::string name;   // of its files: "pareto" for pareto.svg and pareto.png
  std::string title;  // a heading
  std::string caption;
  Json spec;
};

/// Nothing if no strategies are to be compared at two contexts or more.
std::optional<Plot> answer_plot(std::span<const Run> runs, const std::vector<Scene>& scenes);
Plot pareto_plot(const std::vector<Scene>& scenes);
Plot roofline_plot(const std::vector<Scene>& scenes);
Plot phases_plot(const std::vector<Scene>& scenes);
/// Nothing if no run compares strategies.
std::optional<Plot> crossover_plot(std::span<const Run> runs);

/// All that the runs have rows for.
std::vector<Plot> report_plots(std::span<const Run> runs);

/// The look of what no specification decides, for light or dark surroundings.
Json plot_theme(bool dark);

// What the plots share.

/// Colours that stay apart for colour-blind readers (Okabe and Ito), and a shape each, for those strategies
/// that the scenes have.
Json strategy_color_scale(const std::vector<Scene>& scenes);
Json strategy_shape_scale(const std::vector<Scene>& scenes);
std::string strategy_color(Strategy strategy);

/// Panels side by side under one legend, at most so many in a row; too many are thinned.
Json panel_grid(std::vector<Json> panels, std::size_t columns);
inline constexpr std::size_t most_panels = 24;
/// " 24 of 90 panels are shown, evenly over all." or nothing.
std::string thinning_note(std::size_t panels);

/// The title of a panel; with several runs in the report its run is named below it.
Json panel_title(const Scene& scene, bool several_runs);
bool several_runs(const std::vector<Scene>& scenes);

/// What hovering over a row shows, as fields and as their tooltip.
void add_configuration(Json& datum, const ResultRow& row);
Json configuration_tooltip();

}  // namespace helix
