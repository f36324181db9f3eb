#include "roofline/cost/predict.hpp"

#include "roofline/cost/step_cost.hpp"

namespace helix {

std::string_view name(Bound bound) {
  switch (bound) {
    case Bound::dram:
      return "dram";
    case Bound::compute:
      return "compute";
    case Bound::kernel:
      return "kernel";
    case Bound::latency:
      return "latency";
    case Bound::comm:
      return "comm";
  }
  return "?";
}

Prediction predict(const DecodeStep& step, const SystemSpec& system) {
  const auto& [model, sharding, shape] = step;
  const MemoryModel memory = memory_model({model, sharding, as_served(sharding, shape, system)});
  const DecodeShape computed = as_computed(sharding, shape, system);
  const StepCost cost = whole_step(
      common_cost({model, sharding, computed}, system), attention_cost({model, sharding, computed}, system),
      ffn_cost({model, sharding, computed}, system), layer_repeats(model, sharding));
  return assemble(cost, memory, memory.max_batch(system.dram.usable_bytes()), sharding, shape, system);
}

}  // namespace helix
