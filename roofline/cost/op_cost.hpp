// What an op of the decode step costs on a system.
#pragma once

#include "roofline/cost/trust.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/system/system_spec.hpp"

namespace helix {

/// The terms of one execution as the kernel pays for them: DRAM at the rate that it reaches, arithmetic
/// likewise, the fixed cost of a launch. `total_us` is less than their sum where memory and arithmetic
/// overlap, and more where the kernel waits for neither.
struct OpTime {
  double dram_us = 0, compute_us = 0, fixed_us = 0, comm_us = 0;
  double total_us = 0;
  Trust trust{};
};

/// Throws UsageError if the system has no figures for the op.
OpTime op_time(const Op& op, const SystemSpec& system);

/// The least that an op could take: weights, KV cache and what an elementwise op moves at the DRAM's
/// bandwidth, FLOPs at the peak of the arithmetic that its type is multiplied with (a type that has
/// none is widened).
struct LeastTime {
  double dram_us = 0, compute_us = 0;
};
LeastTime least_time(const Op& op, const SystemSpec& system);

/// HOP-B [P 2.1.3]: `pieces` times compute, each followed by communication that overlaps the next
/// compute. The communication channel takes one message at a time.
double pipelined_us(double compute_us, double comm_us, double pieces);

}  // namespace helix
