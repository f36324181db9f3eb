// TensorRT-LLM's configuration files (JSON or YAML), read and written.
#pragma once

#include <string>
#include <string_view>

#include "sweeps/result_row.hpp"
#include "sweeps/sweep_space.hpp"

namespace helix {

/// The widths, block length and KV cache type of a configuration: with context parallelism a Helix
/// deployment, without it tp, tp+pp, or attention data parallelism (dp+ep where EP = DP). Throws UsageError
/// if cp_type is not HELIX or the two tokens_per_block differ, naming both values.
void load_trtllm_config(const std::string& path, SweepSpace& space);
void parse_trtllm_config(std::string_view yaml, const std::string& origin, SweepSpace& space);

/// The configuration (YAML, with what it cannot say as comments) that deploys a row. Throws UsageError for a
/// layout that TensorRT-LLM does not have.
std::string trtllm_config(const ResultRow& row);

}  // namespace helix
