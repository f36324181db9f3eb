// From a point of the sweep to its row: does it fit, is it right, how long does it take, what was predicted.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "kernels/comm/mpi_communicator.hpp"
#include "kernels/engine/decode_engine.hpp"
#include "roofline/system/system_spec.hpp"
#include "sweeps/launch/world.hpp"
#include "sweeps/measure/admission.hpp"
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
  Admission admission(const SweepPoint& point) const;
  void run_in_group(EngineRequest engine, ResultRow& row, MPI_Comm instance);
  void measure_engine(DecodeEngine& engine, ResultRow& row, MPI_Comm instance);
  /// Of a point that differs in its acceptance alone, which changes no time. On all ranks of the world alike.
  bool measured_before(const Configuration& config) const;

  const World& world_;
  Backend& backend_;
  RankGroups& groups_;
  const SweepRequest& request_;
  const WeightSource* weights_;
  EngineHost host_;
  SpeedLog speed_log_;
  std::optional<ResultRow> last_;  // that was measured
};

/// Whether a token-to-token latency is within the budget; nothing without a budget.
std::optional<bool> within(const std::optional<double>& budget_ms, double token_us);
/// Says that the model puts a token at more than twice the budget; empty if it may meet it.
std::string why_not_worth_measuring(const std::optional<double>& budget_ms, double model_token_us);

}  // namespace helix
