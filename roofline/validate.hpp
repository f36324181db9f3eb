// The model held against measured decode kernels: CSV files with one row per measurement, whose `op` and
// `device` columns say which op on which system.
#pragma once

#include <cstddef>
#include <istream>
#include <map>
#include <string>
#include <vector>

namespace helix {

/// Errors in percent of the measured time.
struct FamilyError {
  std::string family;  // gqa_decode, mla_decode, gemm_<gemm_dtype>, moe_<kernel>, a collective's op
  std::size_t rows = 0;
  double mdape = 0, mape = 0, p90 = 0;
};

struct Validation {
  std::vector<FamilyError> families;
  /// Rows that were not judged, by reason: outside decode (m or tokens > 256, context < 1024), another
  /// kernel.
  std::map<std::string, std::size_t> left_out;
};

/// `source` names the text in errors. Throws UsageError for a missing column, an unknown op or device.
Validation validate(std::istream& csv, const std::string& source);
Validation validate(const std::string& path);

}  // namespace helix
