#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace helix {

/// As parse_json, but a name that is in an object twice, of which JSON keeps one, is a UsageError.
nlohmann::json parse_with_unique_names(std::string_view text, const std::string& origin);

}  // namespace helix
