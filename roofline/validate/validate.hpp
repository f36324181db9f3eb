// The model held against measurements: CSV files with one row a measurement, whose `device` column
// says on which system: kernels in benchmark loops (column `op`), sparse-attention modules in such (`op_name`),
// whole decode steps (`step_ms`), served models (`tpot_ms`), published latencies of one GPU (`metric`; there the
// device is called `system`).
#pragma once

#include <cstddef>
#include <istream>
#include <map>
#include <string>
#include <vector>

namespace helix {

struct SystemSpec;

/// Errors in percent of the measured time.
struct FamilyError {
  /// gqa_decode, mla_decode, gemm_<gemm_dtype>, moe_<kernel>, a collective's op, moe_a2a_<phase>_<kernel>;
  /// of sparse attention <model>/<kernel_source>; of steps <model>/<device>/<layout>; of served models
  /// <model>/<device>/<engine>/<weight_dtype>; of latencies <model>/<system>/<metric>.
  std::string family;
  std::size_t rows = 0;
  double mdape = 0, mape = 0, p90 = 0;
};

/// One row of the file.
struct Residual {
  std::string family;
  std::size_t line = 0;
  double measured_us = 0, model_us = 0;
};

struct Validation {
  std::vector<FamilyError> families;
  std::vector<Residual> residuals;
  /// Rows that were not judged, by reason: outside decode (m or tokens > 256, context < 1024), another
  /// kernel, a model or split that is not known.
  std::map<std::string, std::size_t> left_out;
};

/// `source` names the text in errors. `every_device`, if given, stands for whatever the rows call the device.
/// Throws UsageError for a missing column, an unknown op or device.
Validation validate(std::istream& csv, const std::string& source, const SystemSpec* every_device = nullptr);
Validation validate(const std::string& path, const SystemSpec* every_device = nullptr);

}  // namespace helix
