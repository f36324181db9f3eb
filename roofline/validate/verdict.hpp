// The model's time for a row of measurements.
#pragma once

#include <string>
#include <variant>

#include "roofline/system/system_spec.hpp"
#include "roofline/validate/measured_rows.hpp"

namespace helix {

struct Judged {
  std::string family;
  double model_us = 0, measured_us = 0;
};
struct LeftOut {
  std::string reason;
};
using Verdict = std::variant<Judged, LeftOut>;

/// A kernel in a benchmark loop: the columns `op` and `latency_us`.
Verdict judge_kernel(const MeasuredRow& row, const SystemSpec& system);
/// A whole decode step: `step_ms`, or the mean time per token of a served model: `tpot_ms`.
Verdict judge_step(const MeasuredRow& row, const SystemSpec& system);
/// A sparse-attention module in a benchmark loop: `op_name` and `latency_us`.
Verdict judge_sparse(const MeasuredRow& row, const SystemSpec& system);
/// Inter-token latency of one GPU: `metric` and `value`, in ms or, of a slope, ms a token.
Verdict judge_line(const MeasuredRow& row, const SystemSpec& system);

}  // namespace helix
