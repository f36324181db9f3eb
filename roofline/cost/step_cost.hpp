// Costs of sequences of ops, which add up to a decode step.
#pragma once

#include <span>
#include <vector>

#include "roofline/cost/predict.hpp"
#include "roofline/cost/trust.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/step/memory.hpp"

namespace helix {

struct StepCost {
  PhaseTimes phases;
  // The same time by what takes it; where DRAM and arithmetic overlap inside a kernel they add up to more.
  double dram_us = 0, compute_us = 0;  // at the DRAM's bandwidth and the peak: least_time
  double kernel_us = 0;                // of kernels, beyond the larger of these and the fixed cost
  double latency_us = 0, comm_us = 0;
  double hidden_us = 0;    // of the all-to-all, by attention (HOP-B): in no phase
  double launched_us = 0;  // the step takes at least this long: the host launches its kernels one by one
  double weight_bytes = 0, kv_bytes = 0, state_bytes = 0, wire_bytes = 0;
  Trust trust{};

  void add(const StepCost& other, double times);
};

/// The shape as the system's engine spreads it over ranks, and as it computes that.
DecodeShape as_served(const Sharding& sharding, const DecodeShape& shape, const SystemSpec& system);
DecodeShape as_computed(const Sharding& sharding, const DecodeShape& shape, const SystemSpec& system);

/// Attention's all-to-all counts only as far as nothing hides it (HOP-B).
StepCost cost_of(std::span<const Op> ops, const SystemSpec& system);

// The three parts of a decode step. Each reads only some of the widths, so that a sweep can price it once for
// all configurations that share those. Shapes are those of as_computed.
/// Embedding, head and the exchanges of all layers.
StepCost common_cost(const DecodeStep& step, const SystemSpec& system);
/// Attention of every layer once.
StepCost attention_cost(const DecodeStep& step, const SystemSpec& system);
/// The FFN of every layer once.
StepCost ffn_cost(const DecodeStep& step, const SystemSpec& system);

/// The step that these make; `repeats`: see layer_repeats.
StepCost whole_step(const StepCost& common, const StepCost& attention, const StepCost& ffn, double repeats);

Prediction assemble(const StepCost& step, const MemoryModel& memory, std::int64_t max_batch,
                    const Sharding& sharding, const DecodeShape& shape, const SystemSpec& system);

}  // namespace helix
