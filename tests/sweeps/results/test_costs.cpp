#include <catch2/catch.hpp>

#include "sweeps/results/costs.hpp"
#include "sweeps/results/rows.hpp"

using namespace helix;

TEST_CASE("A token costs its share of the GPU's hour and power") {
  ResultRow row = predicted_row(Strategy::helix, {.kvp = 8, .tpf = 8}, 10e3, 80);  // 1000 tokens/s a GPU
  set_costs(row, {.usd_per_gpu_hour = 3.6}, 1000);
  CHECK(*row.usd_per_mtok == Approx(1));
  CHECK_FALSE(row.joules_per_token);
  set_costs(row, {.board_power = true}, 1200);
  CHECK(*row.joules_per_token == Approx(1.2));
  set_costs(row, {.gpu_watts = 500}, 1200);
  CHECK(*row.joules_per_token == Approx(0.5));
}

TEST_CASE("A row without a rate has no costs") {
  ResultRow row;
  set_costs(row, {.usd_per_gpu_hour = 2, .gpu_watts = 700}, 0);
  CHECK_FALSE(row.usd_per_mtok);
  CHECK_FALSE(row.joules_per_token);
}
