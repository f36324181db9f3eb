// RFC 4180 records: what results.csv and its companions are made of.
#pragma once

#include <istream>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace helix {

using CsvRecord = std::vector<std::string>;

/// Quotes a field where commas, quotes or line breaks in it make that necessary.
std::string csv_field(std::string_view text);
/// One record with its line end "\n".
std::string csv_line(std::span<const std::string> fields);

/// Reads records until the end of the stream. A last record without a line end is torn (its writer was
/// killed) and left out.
std::vector<CsvRecord> read_csv(std::istream& in);

}  // namespace helix
