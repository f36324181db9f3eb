#include "roofline/json_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "roofline/error.hpp"

namespace helix {
namespace {

using nlohmann::json;

/// Short and on one line. Arrays and objects are not printed: they may be long, or nested so deeply that
/// printing them would exhaust the stack.
std::string describe(const json& value) {
  if (value.is_array()) return value.empty() ? "[]" : "an array";
  if (value.is_object()) return value.empty() ? "{}" : "an object";
  constexpr std::size_t longest = 60;
  std::string text = value.dump(-1, ' ', true, json::error_handler_t::replace);
  if (text.size() > longest) text = text.substr(0, longest - 3) + "...";
  return text;
}

}  // namespace

json parse_json(std::string_view text, const std::string& origin) {
  try {
    return json::parse(text);
  } catch (const json::parse_error& error) {
    const std::string_view before =
        text.substr(0, std::min(text.size(), error.byte > 0 ? error.byte - 1 : 0));
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 = 0
    throw UsageError(fmt::format("{}: malformed JSON at line {}, column {}", origin, line,
                                 before.size() - line_start + 1));
  } catch (const json::out_of_range&) {
    throw UsageError(fmt::format("{}: a number in the JSON is too large for any field", origin));
  }
}

JsonFields::JsonFields(const json& value, const std::string& origin) : JsonFields(value, origin, "") {
  if (!value.is_object()) {
    throw UsageError(fmt::format("{}: holds {}, expected a JSON object", origin, describe(value)));
  }
}

JsonFields::JsonFields(const json& value, const std::string& origin, std::string prefix)
    : value_(&value), origin_(origin), prefix_(std::move(prefix)) {}

const json* JsonFields::find(const char* key) const {
  asked_->insert(key);
  const auto it = value_->find(key);
  return it == value_->end() || it->is_null() ? nullptr : &*it;
}

bool JsonFields::names(const char* key) const {
  return value_->contains(key);
}

std::string JsonFields::show(const char* key) const {
  const json* value = find(key);
  return prefix_ + key + (value ? " = " + describe(*value) : " is missing");
}

void JsonFields::refuse(const char* key, std::string_view complaint) const {
  throw UsageError(fmt::format("{}: {}: {}", origin_, show(key), complaint));
}

std::int64_t JsonFields::whole(const char* key, WholeLimits limits) const {
  const json* value = find(key);
  if (value && value->is_number_integer()) {
    const auto number = value->get<std::int64_t>();  // past 2^63 it wraps to a negative, below every minimum
    if (number >= limits.min && number <= limits.max) return number;
  }
  refuse(key, limits.min == limits.max
                  ? fmt::format("only {} is supported", limits.min)
                  : fmt::format("expected a whole number from {} to {}", limits.min, limits.max));
}

std::int64_t JsonFields::whole_or(const char* key, WholeLimits limits, std::int64_t absent) const {
  return has(key) ? whole(key, limits) : absent;
}

double JsonFields::real(const char* key, RealLimits limits) const {
  const json* value = find(key);
  if (value && value->is_number()) {
    const auto number = value->get<double>();
    if (number >= limits.min && number <= limits.max) return number;
  }
  refuse(key, fmt::format("expected a number from {:g} to {:g}", limits.min, limits.max));
}

double JsonFields::real_or(const char* key, RealLimits limits, double absent) const {
  return has(key) ? real(key, limits) : absent;
}

bool JsonFields::flag_or(const char* key, bool absent) const {
  const json* value = find(key);
  if (!value) return absent;
  if (!value->is_boolean()) refuse(key, "expected true or false");
  return value->get<bool>();
}

std::string JsonFields::text(const char* key) const {
  const json* value = find(key);
  if (!value || !value->is_string()) refuse(key, "expected a string");
  return value->get<std::string>();
}

std::string JsonFields::text_or(const char* key, std::string_view absent) const {
  return has(key) ? text(key) : std::string(absent);
}

const json* JsonFields::array(const char* key) const {
  const json* value = find(key);
  if (value && !value->is_array()) refuse(key, "expected an array");
  return value;
}

std::optional<JsonFields> JsonFields::object(const char* key) const {
  const json* value = find(key);
  if (!value) return std::nullopt;
  if (!value->is_object()) refuse(key, "expected an object");
  return JsonFields(*value, origin_, prefix_ + key + ".");
}

std::vector<std::string> JsonFields::unread() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : value_->items()) {
    if (!asked_->contains(key)) keys.push_back(key);
  }
  return keys;
}

}  // namespace helix
