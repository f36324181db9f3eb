#include "roofline/base/json_fields.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

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

std::string line_and_column(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, std::min(text.size(), byte > 0 ? byte - 1 : 0));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 = 0
  return fmt::format("line {}, column {}", line, before.size() - line_start + 1);
}

/// `most_keys` of one object.
template <class Json>
Json parse(std::string_view text, const std::string& origin, int most_keys) {
  constexpr int deepest = 64, most_values = 1'000'000;
  int values = 0;
  std::array<int, deepest + 2> keys{};  // of the object that is open at each depth
  const auto refuse = [&](const std::string& what) {
    throw UsageError(fmt::format("{}: the JSON {}", origin, what));
  };
  const auto bounded = [&](int depth, typename Json::parse_event_t event, const Json&) {
    if (depth > deepest) refuse(fmt::format("is nested more than {} deep", deepest));
    if (++values > most_values) refuse(fmt::format("has more than {} values", most_values));
    int& of_object = keys[static_cast<std::size_t>(depth)];
    if (event == Json::parse_event_t::object_start) keys[static_cast<std::size_t>(depth) + 1] = 0;
    if (event == Json::parse_event_t::key && ++of_object > most_keys) {
      refuse(fmt::format("has an object of more than {} keys", most_keys));
    }
    return true;
  };
  try {
    return Json::parse(text, bounded);
  } catch (const typename Json::parse_error& error) {
    throw UsageError(fmt::format("{}: malformed JSON at {}", origin, line_and_column(text, error.byte)));
  } catch (const typename Json::out_of_range&) {
    throw UsageError(fmt::format("{}: a number in the JSON is too large for any field", origin));
  }
}

}  // namespace

json parse_json(std::string_view text, const std::string& origin) {
  return parse<json>(text, origin, 1'000'000);
}

ordered_json parse_ordered_json(std::string_view text, const std::string& origin) {
  return parse<ordered_json>(text, origin, 2'000);  // it looks for each key among all of them
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
