#include "roofline/predict.hpp"

#include "roofline/memory.hpp"
#include "roofline/step_cost.hpp"

namespace helix {

std::string_view name(Bound bound) {
  switch (bound) {
    case Bound::dram:
      return "dram";
    case Bound::compute:
      return "compute";
    case Bound::latency:
      return "latency";
    case Bound::comm:
      return "comm";
  }
  return "?";
}

Prediction predict(const ModelSpec& model, Strategy, const Sharding& sharding, const DecodeShape& shape,
                   const SystemSpec& system) {
  StepCost step = cost_of(head_ops(model, sharding, shape), system);
  for (const LayerGroup& group : model.layer_groups()) {
    const double repeats = layer_repeats(model, sharding, group);
    step.add(cost_of(attention_ops(model, group.kind.window, sharding, shape), system), repeats);
    step.add(cost_of(ffn_ops(model, group.kind.moe, sharding, shape), system), repeats);
  }
  return summarise(step, memory_model(model, sharding, shape), sharding, shape, system);
}

}  // namespace helix
