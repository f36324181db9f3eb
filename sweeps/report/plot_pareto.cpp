// tokens/s/user against tokens/s/GPU, measured and predicted, a frontier for each strategy.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

#include "roofline/cost/pareto.hpp"
#include "sweeps/report/plot.hpp"

namespace helix {
namespace {

constexpr int panel_width = 310, panel_height = 230;  // pixels

/// Composed: what one rank computes was measured, what all exchange is predicted.
enum class Source { measured, composed, model };
struct Shown {
  Source source;
  const char* name;
  std::vector<int> dash;
};
const std::array sources = {Shown{Source::measured, "measured", {1, 0}},
                            Shown{Source::composed, "composed", {2, 2}},
                            Shown{Source::model, "model", {5, 4}}};

/// Nothing if the row has no time of this source.
std::optional<ParetoPoint> point_of(const ResultRow& row, Source source) {
  double ttl_us = 0;
  if (source == Source::measured && row.measurement) ttl_us = row.measurement->ttl_us;
  if (source == Source::composed && row.share) ttl_us = row.share->composed_us();
  if (source == Source::model && row.prediction) ttl_us = row.prediction->model_ttl_us;
  if (ttl_us <= 0) return std::nullopt;
  const double per_user = 1e6 / row.config.shape.token_us(ttl_us);
  return ParetoPoint{per_user,
                     per_user * static_cast<double>(row.config.shape.batch) / row.config.sharding.ranks()};
}

/// Of a predicted time, as a share of it; 0: not stated.
double known_within(const ResultRow& row) {
  return row.sampled() || !row.prediction ? 0 : row.prediction->trust.error_percent / 100;
}

/// Points inside the frontier only show where the field lies: one for each cell of a fine grid is enough.
class Field {
 public:
  bool covers(ParetoPoint point) {
    const auto cell = [](double value) { return std::lround(16 * std::log10(value)); };
    return !cells_.insert({cell(point.tokens_per_s_user), cell(point.tokens_per_s_gpu)}).second;
  }

 private:
  std::set<std::pair<long, long>> cells_;
};

/// The smallest and the largest of a quantity, with room around them on a logarithmic axis.
struct Extent {
  double low = INFINITY, high = 0;
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  Json domain() const {
    const double room = std::pow(std::max(high / low, 2.0), 0.08);
    return Json::array({low / room, high * room});
  }
};

struct Window {
  Extent per_user, per_gpu;
};

Json values_of(const Scene& scene, Window& window) {
  Json values = Json::array();
  std::map<Strategy, std::vector<const ResultRow*>> by_strategy;
  for (const ResultRow* row : scene.rows) by_strategy[row->config.strategy].push_back(row);
  for (const auto& [strategy, rows] : by_strategy) {
    for (const Shown& shown : sources) {
      std::vector<const ResultRow*> with_time;
      std::vector<ParetoPoint> points;
      for (const ResultRow* row : rows) {
        if (const auto point = point_of(*row, shown.source)) {
          with_time.push_back(row);
          points.push_back(*point);
        }
      }
      const std::vector<std::size_t> front = pareto_front(points);
      const std::set<std::size_t> on_front(front.begin(), front.end());
      Field field;
      for (std::size_t i = 0; i < points.size(); ++i) {
        if (!on_front.contains(i) && field.covers(points[i])) continue;
        window.per_user.add(points[i].tokens_per_s_user);
        window.per_gpu.add(points[i].tokens_per_s_gpu);
        Json datum = {{"x", points[i].tokens_per_s_user},
                      {"y", points[i].tokens_per_s_gpu},
                      {"source", shown.name},
                      {"front", on_front.contains(i)}};
        const double error = known_within(*with_time[i]);
        if (error > 0) {
          datum["slower"] = points[i].tokens_per_s_user / (1 + error);
          datum["faster"] = points[i].tokens_per_s_user * (1 + error);
        }
        add_configuration(datum, *with_time[i]);
        values.push_back(std::move(datum));
      }
    }
  }
  return values;
}

/// Writes the batch at the frontiers' marks of one source, as far as the numbers do not lie over one another.
void label_batches(Json& values, const Window& window, const std::string& source) {
  const auto pixel = [](double value, const Json& domain, double size) {
    const double low = domain[0], high = domain[1];
    return size * std::log(value / low) / std::log(high / low);
  };
  const Json across = window.per_user.domain(), upwards = window.per_gpu.domain();
  std::vector<std::pair<double, double>> taken;
  for (Json& datum : values) {
    if (!datum["front"] || datum["source"] != source) continue;
    const double x = pixel(datum["x"], across, panel_width), y = pixel(datum["y"], upwards, panel_height);
    const bool free = std::ranges::none_of(taken, [&](const auto& other) {
      return std::abs(other.first - x) < 30 && std::abs(other.second - y) < 15;
    });
    if (!free) continue;
    taken.emplace_back(x, y);
    datum["label"] = fmt::format("{}", datum["batch"].get<std::int64_t>());
  }
}

Json axis(const char* field, const std::string& title, const Json& domain) {
  return {{"field", field},
          {"type", "quantitative"},
          {"title", title},
          {"scale", {{"type", "log"}, {"domain", domain}, {"nice", false}}},
          {"axis", {{"format", ".6~r"}, {"tickCount", 6}, {"labelFlush", false}}}};
}

Json layer(const char* filter, const Json& mark) {
  return {{"transform", Json::array({{{"filter", filter}}})}, {"mark", mark}};
}

}  // namespace

Plot pareto_plot(const std::vector<Scene>& scenes) {
  using Key = std::tuple<std::string, std::int64_t, DType, DType>;
  std::map<Key, Window> windows;  // the same for all runs of a scene, so that these compare at a glance
  const auto window_of = [&](const Scene& s) -> Window& {
    return windows[{s.model, s.context, s.weight_dtype, s.kv_dtype}];
  };
  std::vector<Json> values;
  for (const Scene& scene : scenes) values.push_back(values_of(scene, window_of(scene)));
  Json shown = Json::array(), dashes = Json::array();
  for (const Shown& source : sources) {
    const bool any = std::ranges::any_of(scenes, [&](const Scene& scene) {
      return std::ranges::any_of(
          scene.rows, [&](const ResultRow* row) { return point_of(*row, source.source).has_value(); });
    });
    if (any) shown.push_back(source.name), dashes.push_back(source.dash);
  }
  // Batches stand at what was measured, if anything was.
  for (std::size_t i = 0; i < scenes.size(); ++i)
    label_batches(values[i], window_of(scenes[i]), shown.front());

  std::vector<Json> panels;
  for (std::size_t i = 0; i < scenes.size(); ++i) {
    const bool cpu = scenes[i].rows.front()->backend == "cpu";
    const Window& window = window_of(scenes[i]);
    const Json x = axis("x", "tokens/s per user", window.per_user.domain());
    const Json y = axis("y", cpu ? "tokens/s per rank (CPU)" : "tokens/s per GPU", window.per_gpu.domain());
    const Json color = {
        {"field", "strategy"}, {"title", "strategy"}, {"scale", strategy_color_scale(scenes)}};
    const Json shape = {
        {"field", "strategy"}, {"title", "strategy"}, {"scale", strategy_shape_scale(scenes)}};
    const Json dash = {{"field", "source"},
                       {"title", "frontier"},
                       {"scale", {{"domain", shown}, {"range", dashes}}},
                       {"legend", {{"symbolType", "stroke"}, {"symbolSize", 300}}}};
    const Json place = {{"x", x}, {"y", y}, {"color", color}};
    const auto encoded = [&](Json one, const Json& more) {
      one["encoding"] = place;
      one["encoding"].update(more);
      return one;
    };
    const Json points = {{"shape", shape}, {"tooltip", configuration_tooltip()}};
    panels.push_back(
        {{"title", panel_title(scenes[i], several_runs(scenes))},
         {"width", panel_width},
         {"height", panel_height},
         {"data", {{"values", values[i]}}},
         {"layer",
          Json::array({encoded(layer("datum.front && isValid(datum.slower)",
                                     {{"type", "rule"}, {"opacity", 0.45}, {"clip", true}}),
                               {{"x", axis("slower", "tokens/s per user", window.per_user.domain())},
                                {"x2", {{"field", "faster"}}}}),
                       encoded(layer("!datum.front", {{"type", "point"},
                                                      {"filled", true},
                                                      {"size", 22},
                                                      {"opacity", 0.35},
                                                      {"stroke", nullptr}}),
                               points),
                       encoded(layer("datum.front", {{"type", "line"}, {"strokeWidth", 1.8}}),
                               {{"strokeDash", dash}, {"order", {{"field", "x"}, {"type", "quantitative"}}}}),
                       encoded(layer("datum.front && datum.source != 'model'",
                                     {{"type", "point"}, {"filled", true}, {"size", 65}, {"opacity", 1}}),
                               points),
                       encoded(layer("datum.front && datum.source == 'model'",
                                     {{"type", "point"}, {"filled", false}, {"size", 55}, {"opacity", 1}}),
                               points),
                       {{"transform", Json::array({{{"filter", "isValid(datum.label)"}}})},
                        {"mark", {{"type", "text"}, {"fontSize", 10}, {"dy", -11}}},
                        {"encoding", {{"x", x}, {"y", y}, {"text", {{"field", "label"}}}}}}})}});
  }
  return {
      .name = "pareto",
      .title = "Pareto frontiers",
      .caption =
          "Each point is a configuration: to the right a user gets tokens faster, upwards a GPU serves "
          "more of them. Lines join the best of each strategy; filled marks on solid lines are "
          "measured, on dotted lines composed of what one rank was measured to compute and the predicted "
          "exchanges, hollow marks on dashed lines predicted; a number is the batch at a mark; small pale "
          "marks "
          "lie behind a frontier. Bars reach as far as nine of ten measured kernels of the least known "
          "kind in "
          "the step were off." +
          thinning_note(panels.size()),
      .spec = panel_grid(std::move(panels), 3)};
}

}  // namespace helix
