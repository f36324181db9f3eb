// Rows for people and for other programs, on standard output.
#pragma once

#include <span>
#include <string>

#include "sweeps/result_row.hpp"
#include "sweeps/sweep_request.hpp"

namespace helix {

/// A table for the terminal, its rows grouped by model, context and batch and by falling tokens/s/user in
/// each; frontier points carry a `*`, a caveat its keyword. Skipped and failed rows follow with their
/// reasons.
std::string format_table(std::span<const ResultRow> rows);
/// An array of objects with the columns of results.csv; numbers are numbers, empty columns are null.
std::string format_json(std::span<const ResultRow> rows);
/// The text of a results.csv.
/// One row as JSON on a line of its own; which rows are on the frontier is not known yet: null.
std::string format_json_line(const ResultRow& row);
std::string format_csv(std::span<const ResultRow> rows);

std::string format_rows(std::span<const ResultRow> rows, OutputFormat format);

}  // namespace helix
