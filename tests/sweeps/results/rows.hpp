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

/// With a figure of its own in every column; nobody measured them.
inline ResultRow measured_row(std::int64_t batch, double ttl_us) {
  ResultRow row;
  row.config = {
      .model = "m", .strategy = Strategy::helix, .sharding = {.kvp = 2, .tpa = 1, .tpf = 2}, .shape = {}};
  row.config.shape.context = 65536;
  row.config.shape.batch = batch;
  row.id = configuration_id(row.config);
  row.config.precision = "attention=bf16 ffn=bf16";
  row.config.precision_source = "flag";
  row.system = "here";
  row.backend = "cpu";
  row.kernel = "avx2";
  row.layers_measured = row.layers_total = 16;
  row.verify_rel_error = 0.00125;
  Measurement& m = row.measurement.emplace();
  m.samples_us = {ttl_us, ttl_us + 1};
  m.samples = 2;
  m.ttl_us = ttl_us;
  m.ttl_p90_us = ttl_us + 2;
  m.ttl_p99_us = ttl_us + 3;
  m.ttl_min_us = ttl_us - 1;
  m.ttl_rel_stderr = 0.004;
  for (std::size_t i = 0; i < phase_count; ++i) m.phases.us[i] = 10.0 * static_cast<double>(i + 1);
  m.exposed_comm_us = 33;
  m.stop = StopReason::plateau;
  Prediction& p = row.prediction.emplace();
  p.roofline_ttl_us = 500;
  p.model_ttl_us = 1100;
  for (std::size_t i = 0; i < phase_count; ++i) p.phases.us[i] = static_cast<double>(i + 1);
  p.bound = Bound::latency;
  p.kv_bytes_per_rank = 1e10;
  p.weight_bytes_per_rank = 2e9;
  p.comm_bytes_per_rank = 4096;
  p.memory_bytes_per_rank = 12345678901;
  p.max_batch = 17;
  p.memory_capacity_bytes = 2e10;
  p.memory_fraction = 0.92;
  p.max_context = 131072;
  row.meets_budget = true;
  p.kv_tokens_per_rank = 524288;
  return row;
}

inline ResultRow skipped_row() {
  ResultRow row;
  row.config = {.model = "m", .strategy = Strategy::tp, .sharding = {}, .shape = {}};
  row.config.shape.context = 1024;
  row.id = configuration_id(row.config);
  row.status = Status::skipped;
  row.reason = "does not fit memory: needs 10, has 4";
  return row;
}

}  // namespace helix
