// What a token costs in money and energy.
#pragma once

#include <optional>

#include "roofline/system/system_spec.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// What a GPU costs, for columns in money and energy a token.
struct Bill {
  std::optional<double> usd_per_gpu_hour{};
  std::optional<double> gpu_watts{};
  bool board_power = false;  // watts as the system file states them
};

/// Throws UsageError where the board's power is asked for and the system does not state it, as a calibrated one.
void require_board_power(const Bill& bill, const SystemSpec& system);

/// Sets what the bill asks for, of rows that have a rate; `board_watts` is the data sheet's. Both are bounds:
/// idle GPUs of a layout count, and boards seldom draw all that they may.
void set_costs(ResultRow& row, const Bill& bill, double board_watts);
/// The same for GPUs that are paid for, whatever part of them the row's layout runs on: tokens/s of each of them.
void set_costs(ResultRow& row, const Bill& bill, double board_watts, double tokens_per_s_gpu);

}  // namespace helix
