#include "sweeps/results/run_json.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "roofline/base/error.hpp"
#include "roofline/base/json_fields.hpp"

namespace helix {

nlohmann::ordered_json part_of(const nlohmann::ordered_json& run, std::size_t first_row) {
  nlohmann::ordered_json part = {{"first_row", first_row}, {"rows", 0}};
  for (const auto& [key, value] : run.items()) {
    const bool of_whole_run = key == "schema_version" || key == "program" || key == "request" ||
                              key == "parts" || key == "resumed" || key == "complete";
    if (!of_whole_run) part[key] = value;
  }
  return part;
}

nlohmann::ordered_json parts_of(const nlohmann::ordered_json& run, std::size_t rows) {
  nlohmann::ordered_json parts = run.value("parts", nlohmann::ordered_json::array());
  if (!parts.is_array() || parts.empty()) parts = nlohmann::ordered_json::array({part_of(run, 0)});
  nlohmann::ordered_json& last = parts.back();
  const bool known = last.is_object() && last.contains("first_row") && last["first_row"].is_number_unsigned();
  if (known) last["rows"] = rows - std::min(rows, last["first_row"].get<std::size_t>());
  return parts;
}

nlohmann::ordered_json parse_run_json(const std::string& text, const std::string& source) {
  nlohmann::ordered_json run = parse_ordered_json(text, source);
  constexpr int most_resumes = 1'000'000;
  if (run.is_object() && run.contains("resumed") && run["resumed"].is_number_integer() &&
      run["resumed"] >= 0 && run["resumed"] <= most_resumes) {
    return run;
  }
  throw UsageError(fmt::format("--resume: '{}' is not the run.json of a run", source));
}

}  // namespace helix
