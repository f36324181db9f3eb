// Rows for tests of what looks at runs.
#pragma once

#include "sweeps/request/enumerate.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// A predicted row of deepseek-r1 on gb200; nobody computed its figures.
inline ResultRow predicted_row(Strategy strategy, const Sharding& sharding, double model_ttl_us = 10e3,
                               std::int64_t batch = 64) {
  ResultRow row;
  row.config = {.model = "deepseek-r1", .strategy = strategy, .sharding = sharding, .shape = {}};
  row.config.shape.context = 1 << 20;
  row.config.shape.batch = batch;
  row.config.shape.weight_dtype = DType::nvfp4;
  row.config.shape.kv_dtype = DType::fp8;
  row.id = configuration_id(row.config);
  row.system = "gb200";
  row.backend = "model";
  Prediction& p = row.prediction.emplace();
  p.model_ttl_us = model_ttl_us;
  p.roofline_ttl_us = model_ttl_us / 2;
  p.tokens_per_s_user = 1e6 / model_ttl_us;
  p.tokens_per_s_gpu = p.tokens_per_s_user * static_cast<double>(batch) / sharding.ranks();
  return row;
}

}  // namespace helix
