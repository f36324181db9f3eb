// Where a run comes from: what run.json says about program, machine and engine.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sweeps/request/sweep_request.hpp"

namespace helix {

std::string_view program_version();
std::string_view program_commit();  // of the build, "unknown" outside git

/// Clocks, power and throttling of a device, by name.
using DeviceConditions = std::vector<std::pair<std::string, std::string>>;
nlohmann::ordered_json to_json(const DeviceConditions& conditions);  // null if there are none

/// What the engine knows of itself; filled by the command that runs it.
struct EngineProvenance {
  std::string backend, kernel;           // that really ran
  std::string device;                    // "" for a CPU backend: the host's CPU stands in "host"
  DeviceConditions device_conditions{};  // of rank 0's device when the measuring began
  int world_ranks = 0;
  int threads_per_rank = 0;
  std::vector<std::string> placement;  // per rank: host and cores
  std::string system;                  // name of the system that predicts
  std::string calibration_yaml;        // what `calibrate` would write; empty if the system was given
};

/// The start of a run: program, host, libraries, environment (allow-listed), request, start time.
nlohmann::ordered_json run_provenance(const SweepRequest& request, const EngineProvenance& engine);

/// Now, as 2026-11-21T22:42:00Z.
std::string utc_now();

}  // namespace helix
