// TensorRT-LLM's configuration files (JSON or YAML), read and written.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "sweeps/export/deployment.hpp"
#include "sweeps/request/sweep_space.hpp"

namespace helix {

inline constexpr std::string_view own_comment = "# helix-bench: ";

/// The widths, block length, KV cache type, batch (max_batch_size, of a rank's micro-batch in the file) and
/// context (max_seq_len) of a configuration: with context parallelism a Helix deployment, without it tp,
/// tp+pp, or attention data parallelism (dp+ep where EP = DP). Of a disaggregated deployment's file the
/// generation servers are read. Returns the keys that nothing was read from, e.g. "moe_config.backend" or
/// "kv_cache_config.max_tokens". Throws UsageError for what the engine refuses too: a key inside cp_config
/// that it does not know, a MoE grid of other ranks than tensor_parallel_size x context_parallel_size, and
/// cp_type other than HELIX or two unequal tokens_per_block, naming both values.
/// What no key can say, a comment of ours may: "# helix-bench: weight-dtype nvfp4", with the name and value of a
/// sweep's setting.
std::vector<std::string> load_trtllm_config(const std::string& path, SweepSpace& space);
std::vector<std::string> parse_trtllm_config(std::string_view yaml, const std::string& origin,
                                             SweepSpace& space);

/// The configuration (YAML, with what it cannot say as comments) that deploys a row. Throws UsageError for a
/// layout that TensorRT-LLM does not have.
std::string trtllm_config(const DeployedPoint& point);

}  // namespace helix
