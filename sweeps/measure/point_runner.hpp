// From a point of the sweep to its row: does it fit, is it right, how long does it take, what was predicted.
#pragma once

#include <map>
#include <memory>

#include "kernels/comm/mpi_communicator.hpp"
#include "kernels/engine/decode_engine.hpp"
#include "roofline/system/system_spec.hpp"
#include "sweeps/launch/world.hpp"
#include "sweeps/measure/engine_host.hpp"
#include "sweeps/measure/speed_log.hpp"
#include "sweeps/request/enumerate.hpp"
#include "sweeps/request/sweep_request.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// The first `size` ranks of the world, for each size that a sweep uses.
class RankGroups {
 public:
  explicit RankGroups(MPI_Comm world) : world_(world) {}
  ~RankGroups();
  RankGroups(const RankGroups&) = delete;
  RankGroups& operator=(const RankGroups&) = delete;

  /// Collective over the world; MPI_COMM_NULL on ranks that do not belong to it.
  MPI_Comm first(int size);

 private:
  MPI_Comm world_;
  std::map<int, MPI_Comm> groups_;
};

class PointRunner {
 public:
  /// `weights`: null for synthetic ones.
  PointRunner(const World& world, Backend& backend, RankGroups& groups, const SweepRequest& request,
              const WeightSource* weights = nullptr);

  /// Makes room for the largest KV cache of these points, so that it is mapped once.
  void reserve(const std::vector<SweepPoint>& points);

  /// Collective over the world. The row is complete on rank 0; ranks outside the point's group wait idly.
  /// `system`: the machine as its group of ranks sees it.
  ResultRow run(const SweepPoint& point, const SystemSpec& system);

  /// This rank's device in the points that it has measured.
  const SpeedLog& speed_log() const { return speed_log_; }

 private:
  /// `memory_bytes`: what the point needs on the busiest rank.
  void run_in_group(const SweepPoint& point, double memory_bytes, ResultRow& row, MPI_Comm instance);

  const World& world_;
  Backend& backend_;
  RankGroups& groups_;
  const SweepRequest& request_;
  const WeightSource* weights_;
  EngineHost host_;
  SpeedLog speed_log_;
};

/// How much of a point an engine runs.
struct EngineExtent {
  std::int64_t layers = 0;        // of the model's, from the first on
  std::int64_t least_layers = 0;  // with less a stage would lack a layer, or a kind of layer, that counts
  std::int64_t steps = 0;         // between rewinds
};
struct Admission {
  std::string reason;       // why the point does not run; empty: it runs
  double memory_bytes = 0;  // then what the engine takes on the busiest rank
};
/// Whether a point runs on this backend and in this world: the one statement of it. Its parts are below.
Admission admit(const SweepPoint& point, const EngineExtent& extent, Backend& backend, const World& world);

/// Why the backend does not run a point: illegal, or of a kind that is only predicted; empty if it runs.
std::string why_not_measured(const SweepPoint& point, const Backend& backend);
/// What the engine takes on the busiest rank: as predicted, but for the cache, which has room for `steps`
/// steps, and pages as the backend's kernels want them.
double engine_bytes(const Configuration& config, const ModelSpec& model, std::int64_t steps,
                    Backend& backend);
/// Says that ranks would have to exchange longer messages than MPI counts; empty if they need not.
std::string why_not_exchanged(const Configuration& config, const ModelSpec& model);
/// Whether a token-to-token latency is within the budget; nothing without a budget.
std::optional<bool> within(const std::optional<double>& budget_ms, double ttl_us);
/// Says that the model puts a point at more than twice the budget; empty if it may meet it.
std::string why_not_worth_measuring(const std::optional<double>& budget_ms, const Prediction& prediction);
/// Says that a point which needs so much memory does not fit, with both numbers; empty if it does.
std::string why_not_fitting(double bytes_per_rank, const World& world);
/// Layers that a point measures: what it asks for, at most the model's depth.
std::int64_t layers_to_measure(const Configuration& config, const ModelSpec& model);
/// The model cut to its first `layers` layers.
ModelSpec truncated(const ModelSpec& model, std::int64_t layers);

}  // namespace helix
