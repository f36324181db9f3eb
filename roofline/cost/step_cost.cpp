#include "roofline/cost/step_cost.hpp"

#include <algorithm>
#include <array>
#include <utility>

#include "roofline/cost/gpu_units.hpp"
#include "roofline/cost/op_cost.hpp"
#include "roofline/step/draft_ops.hpp"

namespace helix {

void StepCost::add(const StepCost& other, double times) {
  for (std::size_t p = 0; p < phase_count; ++p) phases.us[p] += times * other.phases.us[p];
  dram_us += times * other.dram_us;
  compute_us += times * other.compute_us;
  kernel_us += times * other.kernel_us;
  latency_us += times * other.latency_us;
  comm_us += times * other.comm_us;
  hidden_us += times * other.hidden_us;
  launched_us += times * other.launched_us;
  weight_bytes += times * other.weight_bytes;
  kv_bytes += times * other.kv_bytes;
  state_bytes += times * other.state_bytes;
  wire_bytes += times * other.wire_bytes;
  trust.add(other.trust);
}

namespace {

/// Shared experts on a second stream end when the routed ones do, or later; both share the DRAM.
class SharedExperts {
 public:
  void add(const Op& op, const OpTime& t) {
    if (op.beside_routed) {
      shared_us_ += op.count * t.total_us;
    } else if (std::holds_alternative<MoeShape>(op.shape)) {
      routed_us_ += op.count * t.total_us;
    } else {
      return;
    }
    dram_us_ += op.count * t.dram_us;
  }
  double hidden_us() const {
    return shared_us_ + routed_us_ -
           std::max({shared_us_, routed_us_, std::min(dram_us_, shared_us_ + routed_us_)});
  }

 private:
  double shared_us_ = 0, routed_us_ = 0, dram_us_ = 0;
};

}  // namespace

DecodeShape as_served(const Sharding& sharding, const DecodeShape& shape, const SystemSpec& system) {
  DecodeShape served = shape;
  if (!system.gpu || sharding.dp == 1) return served;
  const GpuEngine& engine = engine_overhead(system);
  const bool whole_requests = attends_whole_requests(sharding);
  served.whole_head = engine.whole_lm_head && whole_requests;
  served.sums_in_group = engine.gathers_tokens && !whole_requests;
  return served;
}

DecodeShape as_computed(const Sharding& sharding, const DecodeShape& shape, const SystemSpec& system) {
  DecodeShape computed = as_served(sharding, shape, system);
  if (!system.gpu) return computed;
  const std::int64_t rows = attended_batch(sharding, shape) * shape.query_tokens();
  if (static_cast<double>(rows) <= engine_overhead(system).captured_rows)
    computed.padded_rows = graph_rows(rows);
  return computed;
}

namespace {

/// A step's runs of the draft layer, as an engine computes them, each so often as a layer of the model counts once.
std::vector<DraftRuns> drafted(const DecodeStep& step, const SystemSpec& system) {
  const auto& [model, sharding, computed] = step;
  if (!drafts(model, computed)) return {};
  std::vector<DraftRuns> runs = draft_runs(step);
  for (DraftRuns& run : runs) {
    run.shape.padded_rows = 0;
    run.shape = as_computed(run.sharding, run.shape, system);
    run.times /= layer_repeats(model, sharding);
  }
  return runs;
}

}  // namespace

StepCost cost_of(std::span<const Op> ops, const SystemSpec& system) {
  StepCost cost;
  SharedExperts shared;
  double pieces = 1;
  const bool sends = system.gpu && !engine_overhead(system).gathers_tokens;
  const Way other_way = sends ? Way::gathers : Way::sends;
  for (const Op& op : ops) {
    if (op.way == other_way) continue;
    const OpTime t = op_time(op, system);
    cost.phases[op.phase] += op.count * t.total_us;
    const double busy_us = std::max(0.0, t.total_us - t.fixed_us - t.comm_us);
    const LeastTime least = least_time(op, system);
    const double dram_us = std::min(least.dram_us, busy_us), compute_us = std::min(least.compute_us, busy_us);
    cost.dram_us += op.count * dram_us;
    cost.compute_us += op.count * compute_us;
    cost.kernel_us += op.count * (busy_us - std::max(dram_us, compute_us));
    cost.latency_us += op.count * t.fixed_us;
    cost.comm_us += op.count * t.comm_us;
    cost.weight_bytes += op.count * op.bytes.weights;
    cost.kv_bytes += op.count * op.bytes.kv;
    cost.state_bytes += op.count * op.bytes.state;
    cost.wire_bytes += op.count * op.wire_bytes;
    cost.trust.add(t.trust);
    shared.add(op, t);
    if (op.phase == Phase::a2a) pieces = op.count;
  }
  if (system.gpu && engine_overhead(system).overlaps_shared_experts) {
    cost.phases[Phase::ffn] -= shared.hidden_us();
    cost.latency_us -= std::min(cost.latency_us, shared.hidden_us());
  }
  if (pieces > 1) {
    const double compute = cost.phases[Phase::attn] + cost.phases[Phase::merge];
    double& exchange = cost.phases[Phase::a2a];
    const double exposed = pipelined_us(compute / pieces, exchange / pieces, pieces) - compute;
    cost.hidden_us = exchange - exposed;
    cost.comm_us -= cost.hidden_us;
    exchange = exposed;
  }
  return cost;
}

StepCost common_cost(const DecodeStep& step, const SystemSpec& system) {
  const auto& [model, sharding, shape] = step;
  StepCost sum = cost_of(head_ops(step), system);
  if (system.gpu) {
    const double step_us = engine_overhead(system).step_us;
    sum.phases[Phase::head] += step_us;
    sum.latency_us += step_us;
    // Steps of no other layout than TP were measured.
    const bool tensor_parallel = sharding.ranks() == sharding.tpa && sharding.tpa == sharding.tpf;
    sum.trust.extrapolated.engine =
        system.engine != Engine::none && (engine_carried_over(system) || !tensor_parallel);
  }
  const double repeats = layer_repeats(model, sharding);
  if (system.gpu) {
    const GpuEngine& engine = engine_overhead(system);
    const auto rows = static_cast<double>(attended_batch(sharding, shape) * shape.query_tokens());
    if (rows > engine.captured_rows)
      sum.launched_us = engine.launched_layer_us * repeats * static_cast<double>(model.layers);
  }
  for (const LayerGroup& group : model.layer_groups()) {
    sum.add(cost_of(exchange_ops(step, group.kind), system), repeats * static_cast<double>(group.count));
  }
  for (const auto& [layout, run, times] : drafted(step, system)) {
    for (const std::vector<Op>& ops : {draft_input_ops({model, layout, run}),
                                       exchange_ops({drafter(model), layout, run}, draft_layer(model)),
                                       draft_head_ops({model, layout, run})})
      sum.add(cost_of(ops, system), repeats * times);
  }
  return sum;
}

StepCost attention_cost(const DecodeStep& step, const SystemSpec& system) {
  StepCost sum;
  for (const LayerGroup& group : step.model.layer_groups()) {
    sum.add(cost_of(attention_ops(step, group.kind), system), static_cast<double>(group.count));
  }
  for (const auto& [layout, run, times] : drafted(step, system))
    sum.add(cost_of(attention_ops({drafter(step.model), layout, run}, draft_layer(step.model)), system),
            times);
  return sum;
}

StepCost ffn_cost(const DecodeStep& step, const SystemSpec& system) {
  StepCost sum;
  for (const LayerGroup& group : step.model.layer_groups()) {
    sum.add(cost_of(ffn_ops(step, group.kind), system), static_cast<double>(group.count));
  }
  for (const auto& [layout, run, times] : drafted(step, system))
    sum.add(cost_of(ffn_ops({drafter(step.model), layout, run}, draft_layer(step.model)), system), times);
  return sum;
}

StepCost whole_step(const StepCost& common, const StepCost& attention, const StepCost& ffn, double repeats) {
  StepCost step = common;
  step.add(attention, repeats);
  step.add(ffn, repeats);
  if (const double waits_us = step.launched_us - step.phases.total(); waits_us > 0) {
    step.phases[Phase::head] += waits_us;
    step.latency_us += waits_us;
  }
  return step;
}

Prediction assemble(const StepCost& step, const MemoryModel& memory, std::int64_t max_batch,
                    const Sharding& sharding, const DecodeShape& shape, const SystemSpec& system) {
  const std::array terms{std::pair{step.dram_us, Bound::dram}, std::pair{step.compute_us, Bound::compute},
                         std::pair{step.kernel_us, Bound::kernel}, std::pair{step.latency_us, Bound::latency},
                         std::pair{step.comm_us, Bound::comm}};
  const std::int64_t attended = (shape.batch + sharding.dp - 1) / sharding.dp;  // of all micro-batches
  const double ttl_us = step.phases.total();
  const double steps_per_s = 1e6 / ttl_us;
  return {.roofline_ttl_us =
              (step.weight_bytes + step.kv_bytes + step.state_bytes) / system.roofline_bytes_per_s() * 1e6,
          .model_ttl_us = ttl_us,
          .phases = step.phases,
          .bound = std::max_element(terms.begin(), terms.end())->second,
          .exposed_comm_us = step.comm_us,
          .hidden_comm_us = step.hidden_us,
          .tokens_per_s_user = steps_per_s * shape.acceptance,
          .tokens_per_s_gpu =
              steps_per_s * shape.acceptance * static_cast<double>(shape.batch) / sharding.ranks(),
          .kv_bytes_per_rank = step.kv_bytes,
          .kv_held_bytes_per_rank = memory.kv_per_request * static_cast<double>(attended),
          .state_bytes_per_rank = memory.state_per_request * static_cast<double>(attended),
          .weight_bytes_per_rank = step.weight_bytes,
          .comm_bytes_per_rank = step.wire_bytes,
          .memory_bytes_per_rank = memory.bytes(shape.batch),
          .weights_held_bytes_per_rank = memory.weights,
          .memory_capacity_bytes = system.dram.capacity_bytes,
          .memory_fraction = system.dram.memory_fraction,
          .max_batch = max_batch,
          .max_context = memory.max_context(shape.batch, system.dram.usable_bytes()),
          .kv_tokens_per_rank = memory.tokens_per_request * attended,
          .kv_duplication = memory.kv_duplication,
          .trust = step.trust,
          .engine = system.engine};
}

}  // namespace helix
