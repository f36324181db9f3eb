#include "sweeps/measure/measure.hpp"

#include <algorithm>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/engine/recorded_steps.hpp"
#include "kernels/ops/work_counter.hpp"
#include "roofline/base/statistics.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/measure/acceptance.hpp"
#include "sweeps/measure/energy_meter.hpp"
#include "sweeps/measure/settling.hpp"
#include "sweeps/measure/step_clock.hpp"

namespace helix {
namespace {

constexpr double host_warmup_s = 0.1;    // a burst at least
constexpr int host_warmup_bursts = 5;    // at most
constexpr double device_warmup_s = 2.0;  // at most
constexpr double window_s = 0.02;        // several of the driver's readings of the clock
constexpr int window_bursts = 10;        // at least
constexpr std::size_t steps_per_phase_step = 2, least_phase_steps = 3;

/// Steps that follow each other without a pause. Pipeline stages need that to be busy all the time, and a
/// first step to fill the pipeline with, which does not count; without stages each step is one of its own.
struct Burst {
  explicit Burst(const Sharding& sharding) : fill(sharding.pp > 1 ? 1 : 0), steps(sharding.pp > 1 ? 8 : 1) {}
  int fill, steps;
};

/// Steps with drafts follow each other as their acceptance says; nothing is told again that is known.
class Acceptances {
 public:
  explicit Acceptances(DecodeEngine& engine) : engine_(engine), shape_(engine.instance().shape()) {}

  void before_step() {
    if (shape_.query_tokens() == 1) return;
    if (engine_.steps_done() == 0) {
      known_ = {};
      return;
    }
    std::vector<std::int64_t> accepted = accepted_of_batch(shape_.acceptance, shape_, step_++);
    if (accepted == known_) return;
    engine_.accept(accepted);
    known_ = std::move(accepted);
  }

 private:
  DecodeEngine& engine_;
  const DecodeShape shape_;
  std::int64_t step_ = 0;
  std::vector<std::int64_t> known_;
};

/// One burst, begun together by all ranks: calls step() for each step and done() after those that count.
/// Within a step nothing waits for the device and nothing is allocated.
template <class Step, class Done>
void run_burst(DecodeEngine& engine, Backend& backend, Acceptances& acceptances, const Burst& burst,
               MPI_Comm instance, Step step, Done done) {
  engine.settle();
  if (engine.steps_done() + burst.fill + burst.steps > engine.steps_before_rewind()) engine.rewind();
  backend.synchronize();
  HELIX_MPI(MPI_Barrier(instance));
  for (int i = 0; i < burst.fill + burst.steps; ++i) {
    acceptances.before_step();
    step();
    backend.synchronize();
    note_work();  // a recorded step tells its observer nothing
    if (i >= burst.fill) done();
  }
}

/// Whole steps and their clock; where the backend issues ops ahead, recorded ones.
class StepSeries {
 public:
  StepSeries(DecodeEngine& engine, Backend& backend, Acceptances& acceptances,
             const std::vector<double>& weights)
      : engine_(engine),
        backend_(backend),
        acceptances_(acceptances),
        clock_(weights, backend),
        watched_(clock_),
        recorded_(engine, backend, watched_) {}

  template <class Done>
  void run(const Burst& burst, MPI_Comm instance, Done done) {
    run_burst(
        engine_, backend_, acceptances_, burst, instance, [&] { recorded_.step(); }, done);
  }
  const LayerClock& clock() const { return clock_; }

 private:
  DecodeEngine& engine_;
  Backend& backend_;
  Acceptances& acceptances_;
  LayerClock clock_;
  WatchedStep watched_;
  RecordedSteps recorded_;
};

void warm_up(const Backend& backend, StepSeries& steps, const Burst& burst, MPI_Comm instance) {
  const double begin = MPI_Wtime();
  const auto rank0_says = [&](bool yes) {
    int answer = yes ? 1 : 0;
    HELIX_MPI(MPI_Bcast(&answer, 1, MPI_INT, 0, instance));
    return answer != 0;
  };
  if (!backend.asynchronous()) {
    int done = 0;
    do {
      steps.run(burst, instance, [] {});
      ++done;
    } while (rank0_says(done < host_warmup_bursts && MPI_Wtime() - begin < host_warmup_s));
    return;
  }
  Settling settling;
  bool settled = false;
  do {
    const double window_begin = MPI_Wtime();
    std::vector<double> series;
    do {
      for (int i = 0; i < window_bursts; ++i)
        steps.run(burst, instance, [&] { series.push_back(steps.clock().elapsed_us()); });
    } while (rank0_says(MPI_Wtime() - window_begin < window_s));
    int all = settling.add(median(series), backend.speed().clock_mhz) ? 1 : 0;
    HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &all, 1, MPI_INT, MPI_MIN, instance));
    settled = all != 0;
  } while (rank0_says(!settled && MPI_Wtime() - begin < device_warmup_s));
}

/// The phases of a step, taken in bursts of their own: an instrumented step is slower than a plain one. It is
/// not recorded, either: its ops are issued one by one, with marks between them.
class PhaseSeries {
 public:
  PhaseSeries(DecodeEngine& engine, Backend& backend, Acceptances& acceptances,
              const std::vector<double>& weights)
      : engine_(engine),
        backend_(backend),
        acceptances_(acceptances),
        clock_(weights, backend),
        watched_(clock_) {}

  /// Those of the rank that took longest: phases of one rank add up to its step.
  void add(const Burst& burst, MPI_Comm instance) {
    PhaseTimes times;
    run_burst(
        engine_, backend_, acceptances_, burst, instance, [&] { engine_.step(watched_); },
        [&] { times = clock_.times(); });
    struct {
      double total;
      int rank;
    } slowest{times.total(), 0};
    HELIX_MPI(MPI_Comm_rank(instance, &slowest.rank));
    HELIX_MPI(MPI_Allreduce(MPI_IN_PLACE, &slowest, 1, MPI_DOUBLE_INT, MPI_MAXLOC, instance));
    HELIX_MPI(MPI_Bcast(times.us.data(), static_cast<int>(phase_count), MPI_DOUBLE, slowest.rank, instance));
    steps_.push_back(times);
  }
  std::size_t steps() const { return steps_.size(); }
  PhaseTimes typical() const { return typical_phases(steps_); }

 private:
  DecodeEngine& engine_;
  Backend& backend_;
  Acceptances& acceptances_;
  PhaseClock clock_;
  WatchedStep watched_;
  std::vector<PhaseTimes> steps_;
};

/// Samples of whole steps, and among them every now and then the phases of one: a machine that becomes slower
/// or faster meanwhile does so for both, and the phases still add up to the step.
std::vector<double> sample_steps(StepSeries& steps, PhaseSeries& phases, const Burst& burst,
                                 const StoppingLimits& limits, MPI_Comm instance, StopReason& reason) {
  StoppingRule rule(limits);
  std::vector<double> samples;
  // Rank 0 decides for all: ranks that stopped on their own would leave the others in a collective.
  constexpr int go_on = -1;
  for (int decision = go_on; decision == go_on;) {
    std::vector<double> us, elapsed_us;
    steps.run(burst, instance, [&] {
      us.push_back(steps.clock().us());
      elapsed_us.push_back(steps.clock().elapsed_us());
    });
    HELIX_MPI(
        MPI_Allreduce(MPI_IN_PLACE, us.data(), static_cast<int>(us.size()), MPI_DOUBLE, MPI_MAX, instance));
    for (std::size_t i = 0; i < us.size(); ++i) {
      samples.push_back(us[i]);
      if (const auto stop = rule.add(us[i], elapsed_us[i])) decision = static_cast<int>(*stop);
    }
    HELIX_MPI(MPI_Bcast(&decision, 1, MPI_INT, 0, instance));
    if (decision != go_on) reason = static_cast<StopReason>(decision);
    if (phases.steps() * steps_per_phase_step < samples.size()) phases.add(burst, instance);
  }
  while (phases.steps() < least_phase_steps) phases.add(burst, instance);
  return samples;
}

}  // namespace

Measurement measure(DecodeEngine& engine, Backend& backend, const StoppingLimits& limits, MPI_Comm instance) {
  const std::vector<double> weights = depth_weights(engine.instance());
  const Burst burst(engine.instance().sharding());
  engine.rewind();
  Acceptances acceptances(engine);
  StepSeries steps(engine, backend, acceptances, weights);
  PhaseSeries phases(engine, backend, acceptances, weights);
  working_on("warming up");
  warm_up(backend, steps, burst, instance);

  Measurement result;
  working_on("sampling");
  const EnergyMeter energy(backend);
  result.samples_us = sample_steps(steps, phases, burst, limits, instance, result.stop);
  result.device_watts = energy.mean_watts(instance);
  result.samples = result.samples_us.size();
  const std::vector<double> ordered = sorted(result.samples_us);
  result.ttl_us = median_of_sorted(ordered);
  result.ttl_p90_us = quantile(ordered, 0.90);
  result.ttl_p99_us = quantile(ordered, 0.99);
  result.ttl_min_us = ordered.front();
  result.ttl_rel_stderr = median_standard_error(ordered) / result.ttl_us;

  result.phases = phases.typical();
  engine.settle();
  result.exposed_comm_us =
      result.phases[Phase::a2a] + result.phases[Phase::attn_allreduce] + result.phases[Phase::ffn_comm];
  return result;
}

}  // namespace helix
