#include "sweeps/measure.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/mpi_check.hpp"
#include "kernels/recorded_steps.hpp"
#include "sweeps/statistics.hpp"
#include "sweeps/step_clock.hpp"

namespace helix {
namespace {

/// How many steps a pass takes: at least `least`, then until `seconds` are over, at most `most`.
struct Effort {
  int least, most;
  double seconds;
};
constexpr Effort host_warmup{1, 5, 0.1};
constexpr Effort phase_pass{2, 9, 0.5};
// A GPU raises its clocks under load, and then lowers them as it gets warm.
constexpr double device_warmup_s = 1.0;  // at most
constexpr std::size_t settle_steps = 10;
constexpr double settled_within = 0.005;

void make_room(DecodeEngine& engine) {
  if (engine.steps_done() == engine.steps_before_rewind()) engine.rewind();
}

// One step, begun together by all ranks.
void run_step(DecodeEngine& engine, Backend& backend, RecordedSteps& steps, MPI_Comm instance) {
  make_room(engine);
  backend.synchronize();
  HELIX_MPI(MPI_Barrier(instance));
  steps.step();
  backend.synchronize();
}

/// Calls `step` as often as the effort says; rank 0's clock decides for all.
template <class Step>
void repeat(const Effort& effort, MPI_Comm instance, Step step) {
  const double begin = MPI_Wtime();
  for (int done = 0, go_on = 1; go_on != 0;) {
    step();
    ++done;
    go_on = done < effort.least || (done < effort.most && MPI_Wtime() - begin < effort.seconds) ? 1 : 0;
    HELIX_MPI(MPI_Bcast(&go_on, 1, MPI_INT, 0, instance));
  }
}

// On a device: until the median of ten steps is that of the ten before.
void warm_up(DecodeEngine& engine, Backend& backend, RecordedSteps& steps, const LayerClock& clock,
             MPI_Comm instance) {
  if (!backend.asynchronous()) {
    repeat(host_warmup, instance, [&] { run_step(engine, backend, steps, instance); });
    return;
  }
  const double begin = MPI_Wtime();
  double before = 0;
  for (int go_on = 1; go_on != 0;) {
    std::vector<double> series;
    for (std::size_t i = 0; i < settle_steps; ++i) {
      run_step(engine, backend, steps, instance);
      series.push_back(clock.elapsed_us());
    }
    const double now = median(series);
    go_on = std::fabs(now - before) > settled_within * now && MPI_Wtime() - begin < device_warmup_s ? 1 : 0;
    before = now;
    HELIX_MPI(MPI_Bcast(&go_on, 1, MPI_INT, 0, instance));
  }
}

std::vector<double> sample_steps(DecodeEngine& engine, Backend& backend, RecordedSteps& steps,
                                 const LayerClock& clock, const StoppingLimits& limits, MPI_Comm instance,
                                 StopReason& reason) {
  StoppingRule rule(limits);
  std::vector<double> samples;
  // Rank 0 decides for all: ranks that stopped on their own would leave the others in a collective.
  constexpr int go_on = -1;
  for (int decision = go_on; decision == go_on;) {
    run_step(engine, backend, steps, instance);
    double us = clock.us();
    HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &us, 1, MPI_DOUBLE, MPI_MAX, instance));
    samples.push_back(us);
    if (const auto stop = rule.add(us, clock.elapsed_us())) decision = static_cast<int>(*stop);
    HELIX_MPI(MPI_Bcast(&decision, 1, MPI_INT, 0, instance));
    if (decision != go_on) reason = static_cast<StopReason>(decision);
  }
  return samples;
}

// The phases of the rank that took longest, median over a few steps; phases of one rank add up to its step.
PhaseTimes phase_times(DecodeEngine& engine, Backend& backend, std::vector<double> weights,
                       MPI_Comm instance) {
  PhaseClock clock(std::move(weights), backend);
  engine.rewind();
  RecordedSteps steps(engine, backend, clock);
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(instance, &rank));
  std::array<std::vector<double>, phase_count> series;
  repeat(phase_pass, instance, [&] {
    run_step(engine, backend, steps, instance);
    PhaseTimes times = clock.times();
    struct {
      double total;
      int rank;
    } slowest{times.total(), rank};
    HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &slowest, 1, MPI_DOUBLE_INT, MPI_MAXLOC, instance));
    HELIX_MPI(MPI_Bcast(times.us.data(), static_cast<int>(phase_count), MPI_DOUBLE, slowest.rank, instance));
    for (std::size_t p = 0; p < phase_count; ++p) series[p].push_back(times.us[p]);
  });
  PhaseTimes result;
  for (std::size_t p = 0; p < phase_count; ++p) result.us[p] = median(series[p]);
  return result;
}

}  // namespace

std::vector<double> depth_weights(const ModelSpec& model, std::int64_t layers) {
  const std::vector<LayerGroup> run = model.layer_groups(layers);
  const std::vector<LayerGroup> all = model.layer_groups();
  const auto count = [](const std::vector<LayerGroup>& groups, const LayerKind& kind) {
    const auto found = std::ranges::find(groups, kind, &LayerGroup::kind);
    return found == groups.end() ? 0.0 : static_cast<double>(found->count);
  };
  std::vector<double> weights;
  for (std::int64_t l = 0; l < layers; ++l) {
    const LayerKind kind = model.layer_kind(l);
    weights.push_back(count(all, kind) / count(run, kind));
  }
  return weights;
}

Measurement measure(DecodeEngine& engine, Backend& backend, const ModelSpec& model, std::int64_t layers,
                    const StoppingLimits& limits, MPI_Comm instance) {
  const std::vector<double> weights = depth_weights(model, layers);
  LayerClock clock(weights, backend);
  engine.rewind();
  RecordedSteps steps(engine, backend, clock);
  warm_up(engine, backend, steps, clock, instance);

  Measurement result;
  result.samples_us = sample_steps(engine, backend, steps, clock, limits, instance, result.stop);
  result.samples = result.samples_us.size();
  const std::vector<double> ordered = sorted(result.samples_us);
  result.ttl_us = median_of_sorted(ordered);
  result.ttl_p90_us = quantile(ordered, 0.90);
  result.ttl_p99_us = quantile(ordered, 0.99);
  result.ttl_min_us = ordered.front();
  result.ttl_rel_stderr = median_standard_error(ordered) / result.ttl_us;

  result.phases = phase_times(engine, backend, weights, instance);
  result.exposed_comm_us =
      result.phases[Phase::a2a] + result.phases[Phase::attn_allreduce] + result.phases[Phase::ffn_comm];
  return result;
}

}  // namespace helix
