// What run.json says of a run that was continued.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

namespace helix {

/// The run.json of a run that RunDirectory::begin can continue; `source` names the text in errors. Throws
/// UsageError.
nlohmann::ordered_json parse_run_json(const std::string& text, const std::string& source);
/// What run.json keeps of one part of a resumed run.
nlohmann::ordered_json part_of(const nlohmann::ordered_json& run, std::size_t first_row);
/// The parts of a run that has written so many rows; it may have been killed, and its last part not ended.
nlohmann::ordered_json parts_of(const nlohmann::ordered_json& run, std::size_t rows);

}  // namespace helix
