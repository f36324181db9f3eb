// What a resumed run must have in common with the run that it continues, so that all rows of a directory can
// be compared with one another.
#pragma once

#include <nlohmann/json.hpp>

#include <string>

#include "sweeps/request/enumerate.hpp"
#include "sweeps/request/sweep_request.hpp"

namespace helix {

/// Models, types, seed, ranks and rules, by the names of their flags. Contexts, batches, strategies and
/// widths are not part of it: each row says its own.
nlohmann::ordered_json lasting_request(const SweepRequest& request, const ModelTable& models,
                                       int world_ranks);

/// Throws UsageError if `now` is not what the run of `run_json` began with, naming what differs. `run_json`
/// is null where a run ended before it wrote any.
void refuse_other_request(const nlohmann::ordered_json& run_json, const nlohmann::ordered_json& now,
                          const std::string& directory);

}  // namespace helix
