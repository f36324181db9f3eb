// Flags of the commands: parsed by CLI11, understood by the same tables that sweep files use.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "bench/commands.hpp"
#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Parses the arguments; true if only help was asked for (and printed, by rank 0). Throws UsageError
/// in one line.
bool parse_or_help(CLI::App& app, const Arguments& arguments);

/// The flags of sweep, verify or predict that say what to run; each command has those that it uses.
class RequestFlags {
 public:
  RequestFlags(CLI::App& app, Command command);

  /// The request: a sweep file (--sweep, or `default_sweep` if neither it nor --model is given), then the
  /// TensorRT-LLM file, then the flags, each overriding the ones before. Every model of it has been loaded
  /// once, so that an unusable one is known before anything starts.
  SweepRequest request(const std::string& default_sweep, const Arguments& arguments) const;

 private:
  /// Throws UsageError for flags that say otherwise.
  void refuse_beside_weights(const std::function<bool(std::string_view)>& given) const;
  /// Names on standard error what of the file is not used.
  void apply_trtllm_config(SweepRequest& request) const;

  const CLI::App& app_;
  Command command_;
  std::map<std::string, std::string> values_;  // of the flags in space_settings and run_settings
  std::string sweep_, trtllm_config_, out_;
  bool resume_ = false, quiet_ = false, json_ = false, json_lines_ = false, csv_ = false;
};

}  // namespace helix
