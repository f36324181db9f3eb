// Sweep files: YAML, built in or a user's.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Fills blocks and the quantities of the whole run from a built-in sweep or a YAML file: keys as the flags
/// are called (model, context, kvp, tokens-per-block, ...), and `sweeps`, a list of blocks that each override
/// the keys above it. A file serves every command: keys that one has no use for are for the others. Throws
/// UsageError: unknown name or key (lists the valid ones), unreadable or malformed file, unusable value.
void load_sweep(const std::string& name_or_path, SweepRequest& request);
/// The same from YAML text; `origin` names it in errors.
void parse_sweep(std::string_view yaml, const std::string& origin, SweepRequest& request);
std::vector<std::string> built_in_sweeps();

/// Quantities of the whole run, flags and keys alike; see SpaceSetting.
struct RunSetting {
  std::string_view name, value, help;
  void (*apply)(SweepRequest& request, std::string_view text, const std::string& where);
  Commands used_by{};
};
std::span<const RunSetting> run_settings();

}  // namespace helix
