// What a token costs in money and energy.
#pragma once

#include <optional>

#include "sweeps/results/result_row.hpp"

namespace helix {

/// What a GPU costs, for columns in money and energy a token.
struct Bill {
  std::optional<double> usd_per_gpu_hour{};
  std::optional<double> gpu_watts{};
  bool board_power = false;  // watts as the system file states them
};

/// Sets what the bill asks for, of rows that have a rate; `board_watts` is the data sheet's. Both are bounds:
/// idle GPUs of a layout count, and boards seldom draw all that they may.
void set_costs(ResultRow& row, const Bill& bill, double board_watts);

}  // namespace helix
