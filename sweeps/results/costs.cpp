#include "sweeps/results/costs.hpp"

#include <fmt/format.h>

#include "roofline/base/error.hpp"
#include "sweeps/results/result_columns.hpp"

namespace helix {

void require_board_power(const Bill& bill, const SystemSpec& system) {
  if (!bill.board_power || system.board_watts > 0) return;
  throw UsageError(fmt::format("--power auto: {} states no board power; valid: watts",
                               system.name.empty() ? "a calibration" : "system " + system.name));
}

void set_costs(ResultRow& row, const Bill& bill, double board_watts) {
  set_costs(row, bill, board_watts, tokens_per_s_gpu(row));
}

void set_costs(ResultRow& row, const Bill& bill, double board_watts, double tokens_per_s) {
  if (tokens_per_s <= 0) return;
  constexpr double seconds_per_hour = 3600, tokens_per_million = 1e6;
  if (bill.usd_per_gpu_hour)
    row.usd_per_mtok = *bill.usd_per_gpu_hour / seconds_per_hour / tokens_per_s * tokens_per_million;
  if (bill.gpu_watts || bill.board_power)
    row.joules_per_token = bill.gpu_watts.value_or(board_watts) / tokens_per_s;
}

}  // namespace helix
