// The model of a whole decode step: from a configuration to its predicted time, bytes and memory.
#pragma once

#include <cstdint>
#include <string_view>

#include "roofline/cost/trust.hpp"
#include "roofline/step/decode_step.hpp"
#include "roofline/step/phases.hpp"
#include "roofline/system/system_spec.hpp"

namespace helix {

/// What takes most of a step: DRAM traffic at the DRAM's bandwidth, arithmetic at the peak, what kernels take
/// beyond the larger of these two, fixed costs of kernels, or exposed communication.
enum class Bound { dram, compute, kernel, latency, comm };
std::string_view name(Bound bound);

struct Prediction {
  double roofline_ttl_us = 0;  // DRAM bytes of the busiest rank / achieved DRAM bandwidth
  double model_ttl_us = 0;     // DRAM, matrix peak, fixed costs, communication, overlap
  PhaseTimes phases;           // adds up to model_ttl_us
  Bound bound = Bound::dram;   // the largest of the step's physical terms
  double exposed_comm_us = 0;  // communication that nothing hides
  double hidden_comm_us = 0;   // of the all-to-all, behind attention: no part of the phases
  double tokens_per_s_user = 0;
  double tokens_per_s_gpu = 0;
  // Of the busiest rank and one whole step, all layers of the model:
  double kv_bytes_per_rank = 0;       // KV cache read
  double kv_held_bytes_per_rank = 0;  // in pages; more than is read where a part of it is attended
  double state_bytes_per_rank = 0;    // held by layers with a state, read and written each step
  double weight_bytes_per_rank = 0;   // weights read; of MoE experts only those that the batch touches
  double comm_bytes_per_rank = 0;     // bytes sent
  double memory_bytes_per_rank = 0;   // weights held + KV + state + activations + communication buffers
  double weights_held_bytes_per_rank = 0;
  double memory_capacity_bytes = 0;     // of the rank's device
  double memory_fraction = 0;           // of these may be taken; a larger share does not fit
  std::int64_t max_batch = 0;           // largest batch of the instance that fits the memory
  std::int64_t max_context = 0;         // longest context that fits at this batch, 0: none
  std::int64_t kv_tokens_per_rank = 0;  // requests attended x tokens of each
  double kv_duplication = 1;            // copies of the KV cache in the instance
  Trust trust{};
  Engine engine = Engine::none;

  bool fits() const { return memory_bytes_per_rank <= memory_capacity_bytes * memory_fraction; }
};

/// The step must be legal (see why_illegal).
Prediction predict(const DecodeStep& step, const SystemSpec& system);

}  // namespace helix
