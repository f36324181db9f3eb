#include "kernels/checkpoint/unique_names.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/json_fields.hpp"

namespace helix {

nlohmann::json parse_with_unique_names(std::string_view text, const std::string& origin) {
  parse_json(text, origin);  // refuses what is malformed or too deep
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> names;  // of the objects that are open
  const auto look = [&](int, Event event, const nlohmann::json& value) {
    if (event == Event::object_start) names.emplace_back();
    if (event == Event::object_end) names.pop_back();
    if (event == Event::key && !names.back().insert(value.get<std::string>()).second)
      throw UsageError(
          fmt::format("{}: '{}' is named twice", origin, excerpt(value.get_ref<const std::string&>())));
    return true;
  };
  return nlohmann::json::parse(text, look);
}

}  // namespace helix
