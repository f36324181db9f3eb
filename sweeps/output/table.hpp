// Rows for people and for other programs, on standard output.
#pragma once

#include <nlohmann/json.hpp>

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sweeps/request/enumerate.hpp"
#include "sweeps/request/sweep_request.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// A table for the terminal, its rows grouped by model, context and batch and by falling tokens/s/user in
/// each; frontier points carry a `*`, a caveat its keyword. Columns that are empty are left out, and as many
/// others as `width` demands. Rows that are not ok follow, those of one reason in one line.
std::string format_table(std::span<const ResultRow> rows, std::optional<std::size_t> width = std::nullopt);
/// An array of objects with the columns of results.csv; numbers are numbers, empty columns are null.
std::string format_json(std::span<const ResultRow> rows);
/// One such object.
nlohmann::ordered_json row_to_json(const ResultRow& row);
/// One row as JSON on a line of its own; which rows are on the frontier is not known yet: null.
std::string format_json_line(const ResultRow& row);
/// The text of a results.csv.
std::string format_csv(std::span<const ResultRow> rows);

/// The rows to print of those in results.csv: within the budget, where there is one. A table also shows what
/// failed, and why others were skipped than for the budget.
std::vector<ResultRow> rows_to_print(std::span<const ResultRow> rows, OutputFormat format);
/// "3 of 8 rows meet the budget of 20 ms a token; the others stand in results.csv."
std::string budget_text(std::span<const ResultRow> rows, double budget_ms);

/// A line for each model of which something is left out: "Not in kimi-k2.5: vision_config = an object".
std::string left_out_text(const ModelTable& models);

std::string format_rows(std::span<const ResultRow> rows, OutputFormat format);

}  // namespace helix
