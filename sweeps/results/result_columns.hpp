// The columns of results.csv: stable names and units, and how a row is written to them and read back.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "roofline/base/csv.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// The header, in the order of the file.
CsvRecord result_header();
/// The fields of a row: empty where a quantity does not apply, never NaN or infinite.
CsvRecord to_record(const ResultRow& row);
/// The row back; samples are not part of it. Throws UsageError naming the column that is malformed.
ResultRow from_record(const CsvRecord& record);

double tokens_per_s_user(
    const ResultRow& row);  // measured if there is a measurement, else predicted; 0 if neither
double tokens_per_s_gpu(const ResultRow& row);

std::string_view name(StopReason reason);

}  // namespace helix
