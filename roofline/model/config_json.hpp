// A Hugging Face configuration as JSON, before anything is read from it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "roofline/base/json_fields.hpp"

namespace helix {

/// NaN and Infinity, which Hugging Face writes and JSON does not have, are null. Throws UsageError: malformed.
nlohmann::json parse_config(std::string_view text, const std::string& origin);

/// Of the language model inside a multimodal one.
std::optional<JsonFields> language_part(const JsonFields& config);

}  // namespace helix
