#include "roofline/model/config_json.hpp"

#include <nlohmann/json.hpp>

namespace helix {
namespace {

/// NaN and Infinity, which Hugging Face writes and JSON does not have, as null.
std::string without_non_finite(std::string_view text) {
  std::string json;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (quoted && text[at] == '\\' && at + 1 < text.size()) {
      json += text[at++];
    } else if (text[at] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      const auto word = [&](std::string_view expected) { return text.substr(at).starts_with(expected); };
      const std::size_t length = word("NaN") ? 3 : word("Infinity") ? 8 : word("-Infinity") ? 9 : 0;
      if (length > 0) {
        json += "null";
        at += length - 1;
        continue;
      }
    }
    json += text[at];
  }
  return json;
}

}  // namespace

nlohmann::json parse_config(std::string_view text, const std::string& origin) {
  return parse_json(without_non_finite(text), origin);
}

std::optional<JsonFields> language_part(const JsonFields& config) {
  if (config.has("hidden_size")) return std::nullopt;
  for (const char* key : {"text_config", "llm_config", "language_config"}) {
    if (config.has(key)) return config.object(key);
  }
  return std::nullopt;
}

}  // namespace helix
