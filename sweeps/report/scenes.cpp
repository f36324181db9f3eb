#include "sweeps/report/scenes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {

namespace {

/// A measured run has one system, whose name depends on the number of ranks that were calibrated.
bool compares_systems(const Run& run) {
  std::set<std::string> systems;
  for (const ResultRow& row : run.rows) {
    if (is_timed(row.status) && !row.sampled()) systems.insert(row.system);
  }
  return systems.size() > 1;
}

}  // namespace

std::vector<Scene> scenes_of(std::span<const Run> runs) {
  using Key = std::tuple<std::string, std::int64_t, DType, DType, const Run*, std::string>;
  std::map<Key, Scene> scenes;
  for (const Run& run : runs) {
    const bool compares = compares_systems(run);
    for (const ResultRow& row : run.rows) {
      if (!is_timed(row.status) || tokens_per_s_user(row) <= 0) continue;
      const DecodeShape& shape = row.config.shape;
      const std::string system = compares ? row.system : "";
      Scene& scene =
          scenes[{row.config.model, shape.context, shape.weight_dtype, shape.kv_dtype, &run, system}];
      if (scene.rows.empty()) {
        scene = {&run, row.config.model, shape.context, shape.weight_dtype, shape.kv_dtype, {}, system};
      }
      scene.rows.push_back(&row);
    }
  }
  std::vector<Scene> ordered;
  for (auto& [key, scene] : scenes) {
    std::ranges::stable_sort(scene.rows, {}, [](const ResultRow* row) {
      return std::tuple(row->config.shape.batch, ttl_us(*row));
    });
    ordered.push_back(std::move(scene));
  }
  return ordered;
}

std::string scene_title(const Scene& scene) {
  return fmt::format("{}{}, {} tokens, {}", scene.model, scene.system.empty() ? "" : " on " + scene.system,
                     token_text(scene.context), precision_text(scene.weight_dtype, scene.kv_dtype));
}

std::vector<const ResultRow*> rows_for_lines(const Scene& scene, std::size_t most) {
  if (scene.rows.size() <= most) return scene.rows;
  std::map<Strategy, std::pair<const ResultRow*, const ResultRow*>> best;  // for the user, for the GPU
  for (const ResultRow* row : scene.rows) {
    auto& [user, gpu] = best.try_emplace(row->config.strategy, row, row).first->second;
    if (tokens_per_s_user(*row) > tokens_per_s_user(*user)) user = row;
    if (tokens_per_s_gpu(*row) > tokens_per_s_gpu(*gpu)) gpu = row;
  }
  std::set<const ResultRow*> chosen;
  for (const auto& [strategy, pair] : best) chosen.insert({pair.first, pair.second});
  std::vector<const ResultRow*> kept;
  for (const ResultRow* row : scene.rows) {
    if (row->pareto || chosen.contains(row)) kept.push_back(row);
  }
  return thinned(kept, most);
}

}  // namespace helix
