// Points to export for tests.
#pragma once

#include <algorithm>

#include "sweeps/export/deployment.hpp"
#include "sweeps/results/rows.hpp"

namespace helix {

/// The row with its model, if that is a built-in one.
inline DeployedPoint deployed(const ResultRow& row) {
  const auto known = built_in_models();
  DeployedPoint point{.row = row, .model = std::nullopt};
  if (std::ranges::find(known, row.config.model) != known.end()) point.model = load_model(row.config.model);
  return point;
}

}  // namespace helix
