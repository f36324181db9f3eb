// Typed reading of a JSON object's fields: whatever the text holds, the outcome is a value within its limits
// or a UsageError of one line that names origin, field, what it holds and what was expected.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace helix {

/// Inclusive limits of a whole number, not negative.
struct WholeLimits {
  std::int64_t min = 1;
  std::int64_t max = 1;
};

/// Inclusive limits of a real number.
struct RealLimits {
  double min = 0.0;
  double max = 0.0;
};

/// Throws UsageError, with line and column, if the text is malformed; nested more than 64 deep, which could
/// exhaust the stack of whoever walks through it; or of more than a million values.
nlohmann::json parse_json(std::string_view text, const std::string& origin);
/// The same, with the keys of objects in the order of the text, at most 2000 in one object.
nlohmann::ordered_json parse_ordered_json(std::string_view text, const std::string& origin);

/// The fields of one JSON object, which must outlive this view. A field that is null counts as absent.
class JsonFields {
 public:
  /// Throws UsageError if `value` is not an object.
  JsonFields(const nlohmann::json& value, const std::string& origin);

  bool has(const char* key) const { return find(key) != nullptr; }
  const nlohmann::json* find(const char* key) const;
  /// Whether the key is there, be it with null.
  bool names(const char* key) const;

  std::int64_t whole(const char* key, WholeLimits limits) const;
  std::int64_t whole_or(const char* key, WholeLimits limits, std::int64_t absent) const;
  double real(const char* key, RealLimits limits) const;
  double real_or(const char* key, RealLimits limits, double absent) const;
  bool flag_or(const char* key, bool absent) const;
  std::string text(const char* key) const;
  std::string text_or(const char* key, std::string_view absent) const;
  /// The field as an array, null if absent.
  const nlohmann::json* array(const char* key) const;
  std::optional<JsonFields> object(const char* key) const;

  /// The keys of this object that none of the functions above was asked for.
  std::vector<std::string> unread() const;

  /// "hidden_size = 4096", with the names of the enclosing fields.
  std::string show(const char* key) const;
  /// Throws UsageError: "<origin>: <show(key)>: <complaint>".
  [[noreturn]] void refuse(const char* key, std::string_view complaint) const;

 private:
  JsonFields(const nlohmann::json& value, const std::string& origin, std::string prefix);

  const nlohmann::json* value_;
  std::string origin_;
  std::string prefix_;  // "rope_scaling." in a nested object
  std::shared_ptr<std::set<std::string>> asked_ = std::make_shared<std::set<std::string>>();
};

}  // namespace helix
