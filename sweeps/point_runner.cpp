#include "sweeps/point_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/mpi_check.hpp"
#include "sweeps/measure.hpp"
#include "sweeps/verify.hpp"

namespace helix {
namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;

void add_caveat(std::string& reason, const std::string& caveat) {
  reason += reason.empty() ? caveat : "; " + caveat;
}

std::string why_dtypes_not_measured(const DecodeShape& shape) {
  for (const auto& [what, dtype] : {std::pair{"weight", shape.weight_dtype}, {"kv", shape.kv_dtype}}) {
    if (dtype == DType::bf16 || dtype == DType::fp8) continue;
    return fmt::format("{} dtype {} is predicted, not measured; bf16 and fp8 are", what, name(dtype));
  }
  return {};
}

}  // namespace

RankGroups::~RankGroups() {
  for (auto& [size, group] : groups_) {
    if (group != MPI_COMM_NULL) MPI_Comm_free(&group);
  }
}

MPI_Comm RankGroups::first(int size) {
  const auto found = groups_.find(size);
  if (found != groups_.end()) return found->second;
  int rank = 0;
  HELIX_MPI(MPI_Comm_rank(world_, &rank));
  MPI_Comm group = MPI_COMM_NULL;
  HELIX_MPI(MPI_Comm_split(world_, rank < size ? 0 : MPI_UNDEFINED, rank, &group));
  return groups_[size] = group;
}

std::string why_not_measured(const SweepPoint& point) {
  const Configuration& c = point.config;
  if (!point.skip_reason.empty()) return point.skip_reason;
  if (c.strategy != Strategy::helix && c.strategy != Strategy::tp) {
    return fmt::format("strategy {} is predicted, not measured", name(c.strategy));
  }
  if (c.sharding.dp > 1 || c.sharding.pp > 1) return "dp and pp above 1 are predicted, not measured";
  if (c.shape.hop_b > 1) return "hop-b is predicted, not measured";
  return why_dtypes_not_measured(c.shape);
}

std::string why_not_fitting(double bytes_per_rank, const World& world) {
  if (bytes_per_rank <= static_cast<double>(world.memory_bytes)) return {};
  return fmt::format("does not fit memory: needs {:.0f} bytes per rank, has {}", bytes_per_rank,
                     world.memory_bytes);
}

std::int64_t verify_depth(const ModelSpec& model) {
  return model.moe.experts > 0 ? model.moe.first_dense_layers + 1 : 1;
}

std::int64_t layers_to_measure(const Configuration& config, const ModelSpec& model) {
  return config.layers == 0 ? model.layers : std::min(config.layers, model.layers);
}

ModelSpec truncated(const ModelSpec& model, std::int64_t layers) {
  ModelSpec shallow = model;
  shallow.layers = layers;
  if (!shallow.layer_windows.empty()) shallow.layer_windows.resize(static_cast<std::size_t>(layers));
  return shallow;
}

PointRunner::PointRunner(const World& world, Backend& backend, RankGroups& groups,
                         const SweepRequest& request)
    : world_(world), backend_(backend), groups_(groups), request_(request), weights_(backend) {}

void PointRunner::reserve(const std::vector<SweepPoint>& points) {
  std::size_t largest = 0;
  for (const SweepPoint& point : points) {
    const Configuration& c = point.config;
    if (!why_not_measured(point).empty() || world_.rank >= c.sharding.ranks()) continue;
    const std::size_t bytes = DecodeEngine::kv_bytes_needed(
        *point.model, c.sharding, c.shape, layers_to_measure(c, *point.model), world_.rank, backend_);
    if (bytes <= world_.memory_bytes) largest = std::max(largest, bytes);
  }
  if (largest > 0) ensure(backend_, memory_.kv, largest);
}

ResultRow PointRunner::run(const SweepPoint& point, const SystemSpec& system) {
  const Configuration& c = point.config;
  const ModelSpec& model = *point.model;
  ResultRow row;
  row.id = configuration_id(c);
  row.config = c;
  row.system = system.name;
  row.backend = backend_.name();
  row.kernel = backend_.kernel_path();
  row.layers_total = model.layers;
  row.layers_measured = layers_to_measure(c, model);
  row.status = Status::skipped;
  row.reason = why_not_measured(point);
  // A calibration knows no kernels of types that are not measured.
  const bool predictable = !system.calibrated || why_dtypes_not_measured(c.shape).empty();
  if (!point.skip_reason.empty() || !predictable) return row;
  row.prediction = predict(model, c.strategy, c.sharding, c.shape, system);
  if (!row.reason.empty()) return row;
  if (row.layers_measured < verify_depth(model)) {
    row.reason = fmt::format("--layers {} leaves out a kind of layer; at least {} are needed",
                             row.layers_measured, verify_depth(model));
    return row;
  }

  const Prediction run =
      predict(truncated(model, row.layers_measured), c.strategy, c.sharding, c.shape, system);
  row.reason = why_not_fitting(run.memory_bytes_per_rank, world_);
  if (!row.reason.empty()) return row;
  const double node_ranks = std::min(c.sharding.ranks(), world_.node_ranks);
  const double working_set = node_ranks * (run.kv_bytes_per_rank + run.weight_bytes_per_rank);
  constexpr double cold_multiple = 4;
  if (working_set < cold_multiple * static_cast<double>(world_.node_cache_bytes)) {
    add_caveat(row.reason,
               fmt::format("cache-resident: a step reads {:.2f} GiB per node, caches hold {:.2f} GiB",
                           working_set / gib, static_cast<double>(world_.node_cache_bytes) / gib));
  }
  if (world_.oversubscribed) add_caveat(row.reason, "oversubscribed: more worker threads than CPUs");

  row.status = Status::ok;
  const MPI_Comm instance = groups_.first(c.sharding.ranks());
  if (instance != MPI_COMM_NULL) run_in_group(point, run.memory_bytes_per_rank, row, instance);
  wait_idle(world_.comm);
  return row;
}

void PointRunner::run_in_group(const SweepPoint& point, double memory_bytes, ResultRow& row,
                               MPI_Comm instance) {
  const Configuration& c = point.config;
  const ModelSpec& model = *point.model;
  // What earlier points left must not push this one past its share of the node.
  const double held = memory_.kv ? static_cast<double>(memory_.kv->bytes()) : 0;
  const std::size_t kv_bytes =
      DecodeEngine::kv_bytes_needed(model, c.sharding, c.shape, row.layers_measured, world_.rank, backend_);
  if (memory_bytes + held - static_cast<double>(kv_bytes) > static_cast<double>(world_.memory_bytes)) {
    memory_.kv.reset();
  }

  const Groups groups = make_mpi_groups(instance, c.sharding);
  weights_.load(model, request_.seed, c.sharding, groups.stage->rank(), row.layers_measured,
                c.shape.weight_dtype);
  DecodeEngine engine(model, c.sharding, c.shape, row.layers_measured, request_.seed, backend_, groups,
                      weights_, memory_);

  const Verification check =
      verify(engine, model, c.shape, request_.seed, {.depth = verify_depth(model)}, instance);
  row.verify_rel_error = check.rel_error;
  if (!check.ok()) {
    row.status = Status::failed;
    row.reason = "verification: " + check.failure;
    return;
  }
  row.measurement = measure(engine, backend_, model, row.layers_measured, request_.stopping, instance);
}

}  // namespace helix
