// The models that `helix-bench list models` prints: by what capacity planners ask of them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace helix {

/// An object for each model, by its name. Names as --model takes them.
nlohmann::ordered_json describe_models(const std::vector<std::string>& names);
/// The same for a terminal.
std::string models_table(const std::vector<std::string>& names);

}  // namespace helix
