#include "kernels/checkpoint/stop_tokens.hpp"

#include <limits>
#include <nlohmann/json.hpp>

#include "roofline/base/json_fields.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/model/config_json.hpp"

namespace helix {
namespace {

std::int32_t token_of(const nlohmann::json& value, const JsonFields& fields, const char* key) {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max();
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() > most)
    fields.refuse(key, "expected a token's number, or a list of them");
  return value.get<std::int32_t>();
}

}  // namespace

std::set<std::int32_t> stop_tokens(const std::filesystem::path& directory) {
  constexpr const char* key = "eos_token_id";
  for (const char* file : {"generation_config.json", "config.json"}) {
    const std::filesystem::path path = directory / file;
    std::error_code ignored;
    if (!std::filesystem::exists(path, ignored)) continue;
    const nlohmann::json root = parse_config(read_text_file(path, file), path);
    const JsonFields fields(root, path);
    const nlohmann::json* value = fields.find(key);
    if (const auto inner = language_part(fields); value == nullptr && inner) value = inner->find(key);
    if (value == nullptr) continue;
    std::set<std::int32_t> tokens;
    if (value->is_array()) {
      for (const nlohmann::json& token : *value) tokens.insert(token_of(token, fields, key));
    } else {
      tokens.insert(token_of(*value, fields, key));
    }
    return tokens;
  }
  return {};
}

}  // namespace helix
