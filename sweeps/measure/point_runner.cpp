#include "sweeps/measure/point_runner.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/comm/rank_groups.hpp"
#include "kernels/state/weight_plan.hpp"
#include "roofline/step/decode_ops.hpp"
#include "roofline/step/memory.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/host_load.hpp"
#include "sweeps/measure/measure.hpp"
#include "sweeps/measure/step_clock.hpp"
#include "sweeps/measure/verify.hpp"
#include "sweeps/results/costs.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;

std::string why_dtype_not_measured(const char* what, DType dtype, std::span<const DType> measured) {
  if (std::ranges::count(measured, dtype) > 0) return {};
  std::vector<std::string_view> names;
  for (const DType d : measured) names.push_back(name(d));
  return fmt::format("{} dtype {} is predicted, not measured; {} {}", what, name(dtype),
                     fmt::join(names, " and "), names.size() > 1 ? "are" : "is");
}

std::string why_dtypes_not_measured(const DecodeShape& shape, const Backend& backend) {
  if (shape.weights) {
    return fmt::format(
        "weights of several types are predicted, not measured; --weight-dtype {} measures one for all",
        name(shape.weight_dtype));
  }
  const std::string of_weights =
      why_dtype_not_measured("weight", shape.weight_dtype, backend.weight_dtypes());
  return of_weights.empty() ? why_dtype_not_measured("kv", shape.kv_dtype, backend.kv_dtypes()) : of_weights;
}

KvShape first_ranks_cache(const SweepPoint& point) {
  const Configuration& c = point.config;
  return cached_shape(*point.model, c.sharding, rank_coords(c.sharding, 0), c.shape);
}

/// Why the backend has no kernels for a legal point, so that its calibration cannot predict it either.
std::string why_no_kernels(const SweepPoint& point, const Backend& backend) {
  if (point.config.shape.exchange != CacheExchange{}) {
    return fmt::format(
        "predicted only: the engine runs dcp with --dcp-merge a2a --dcp-queries replicated, not {}",
        to_string(point.config.shape.exchange));
  }
  if (!point.model->not_runnable.empty())
    return fmt::format("predicted only: the engine does not run {}", point.model->not_runnable.front());
  const std::string of_types = why_dtypes_not_measured(point.config.shape, backend);
  if (!of_types.empty()) return of_types;
  const std::string of_cache = backend.why_not(first_ranks_cache(point));
  return of_cache.empty() ? of_cache : "predicted, not measured: " + of_cache;
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

std::string why_not_measured(const SweepPoint& point, const Backend& backend) {
  const Configuration& c = point.config;
  if (!point.skip_reason.empty()) return point.skip_reason;
  const std::int64_t least_requests = c.shape.batch / std::min<std::int64_t>(c.sharding.pp, c.shape.batch);
  if (least_requests < c.sharding.dp) {
    return fmt::format(
        "predicted, not measured: batch={} in {} micro-batches leaves some of dp={} groups without a request",
        c.shape.batch, c.sharding.pp, c.sharding.dp);
  }
  const std::string reason = why_no_kernels(point, backend);
  return reason.empty() ? why_not_cut(*point.model, c.sharding, c.shape.weight_dtype) : reason;
}

double engine_bytes(const Configuration& config, const ModelSpec& model, std::int64_t steps,
                    Backend& backend) {
  const Sharding& sharding = config.sharding;
  const DecodeShape& shape = config.shape;
  const auto ceil_div = [](std::int64_t a, int b) { return static_cast<double>((a + b - 1) / b); };
  const double predicted_cache = held_by_attention(model, sharding, shape).per_request *
                                 ceil_div(shape.batch, sharding.dp) * ceil_div(model.layers, sharding.pp) /
                                 static_cast<double>(model.layers);
  const auto cache = static_cast<double>(
      DecodeEngine::kv_bytes_needed(model, sharding, shape, model.layers, steps, 0, backend));
  // The engine has a table to look tokens up in and a packed matrix for the head, be they the same numbers.
  const double tied = model.tied_embeddings ? ceil_div(model.vocab, sharding.stage_ranks()) *
                                                  static_cast<double>(model.hidden) *
                                                  weight_format(shape, WeightPart::embedding).bytes
                                            : 0;
  return memory_model(model, sharding, shape).bytes(shape.batch) - predicted_cache + cache + tied;
}

std::string why_not_exchanged(const Configuration& config, const ModelSpec& model) {
  const DecodeShape& shape = config.shape;
  const int ranks = config.sharding.stage_ranks();
  if (ranks == 1) return {};
  // Verification gathers the logits.
  double longest =
      static_cast<double>(shape.batch * even_split(model.vocab, ranks, 0).size()) * sizeof(float);
  for (const Op& op : decode_ops(model, config.sharding, shape)) {
    const auto* collective = std::get_if<CollectiveShape>(&op.shape);
    if (collective == nullptr) continue;
    const bool parts = collective->op == Collective::all_to_all;
    longest = std::max(longest, collective->payload_bytes / (parts ? collective->group : 1));
  }
  constexpr int most = std::numeric_limits<int>::max();
  if (longest <= most) return {};
  return fmt::format("ranks would exchange {:.0f} bytes with each other in one message, MPI counts to {}",
                     longest, most);
}

std::optional<bool> within(const std::optional<double>& budget_ms, double ttl_us) {
  if (!budget_ms) return std::nullopt;
  return ttl_us <= *budget_ms * 1e3;
}

std::string why_not_worth_measuring(const std::optional<double>& budget_ms, const Prediction& prediction) {
  constexpr double hopeless = 2;  // the model's error is far below that
  if (!budget_ms || prediction.model_ttl_us <= hopeless * *budget_ms * 1e3) return {};
  return fmt::format("not measured: the model says {:.4g} ms a token, more than twice the budget of {:g} ms",
                     prediction.model_ttl_us / 1e3, *budget_ms);
}

std::string why_not_fitting(double bytes_per_rank, const World& world) {
  if (bytes_per_rank <= static_cast<double>(world.memory_bytes)) return {};
  return shortage_text(bytes_per_rank, static_cast<double>(world.memory_bytes) / world.memory_fraction,
                       world.memory_fraction);
}

std::int64_t layers_to_measure(const Configuration& config, const ModelSpec& model) {
  return config.layers == 0 ? model.layers : std::min(config.layers, model.layers);
}

ModelSpec truncated(const ModelSpec& model, std::int64_t layers) {
  ModelSpec shallow = model;
  shallow.layers = layers;
  if (!shallow.layer_kinds.empty()) shallow.layer_kinds.resize(static_cast<std::size_t>(layers));
  return shallow;
}

Admission admit(const SweepPoint& point, const EngineExtent& extent, Backend& backend, const World& world) {
  const Configuration& c = point.config;
  if (std::string reason = why_not_measured(point, backend); !reason.empty()) return {std::move(reason), 0};
  if (extent.layers < extent.least_layers) {
    return {
        fmt::format("--layers {} leaves {} without a kind of layer that it has in the model; at least {} are "
                    "needed",
                    extent.layers, c.sharding.pp > 1 ? "a pipeline stage" : "the measurement",
                    extent.least_layers),
        0};
  }
  const double bytes = engine_bytes(c, truncated(*point.model, extent.layers), extent.steps, backend);
  if (std::string reason = why_not_fitting(bytes, world); !reason.empty()) return {std::move(reason), 0};
  return {why_not_exchanged(c, *point.model), bytes};
}

PointRunner::PointRunner(const World& world, Backend& backend, RankGroups& groups,
                         const SweepRequest& request, const WeightSource* weights)
    : world_(world),
      backend_(backend),
      groups_(groups),
      request_(request),
      weights_(weights),
      host_(backend, world.memory_bytes) {}

void PointRunner::reserve(const std::vector<SweepPoint>& points) {
  std::size_t largest = 0;
  for (const SweepPoint& point : points) {
    const Configuration& c = point.config;
    if (!why_not_measured(point, backend_).empty() || world_.rank >= c.sharding.ranks()) continue;
    const std::size_t bytes =
        DecodeEngine::kv_bytes_needed(*point.model, c.sharding, c.shape, layers_to_measure(c, *point.model),
                                      measured_steps_room, world_.rank, backend_);
    if (bytes <= world_.memory_bytes) largest = std::max(largest, bytes);
  }
  if (largest > 0) host_.reserve(largest);
}

ResultRow PointRunner::run(const SweepPoint& point, const SystemSpec& system) {
  const Configuration& c = point.config;
  const ModelSpec& model = *point.model;
  ResultRow row;
  row.id = configuration_id(c);
  row.config = c;
  row.system = system.name;
  row.backend = backend_.name();
  row.layers_total = model.layers;
  row.layers_measured = layers_to_measure(c, model);
  row.figures = model_figures(model, c.shape);
  row.status = Status::skipped;
  const Admission admission = admit(point,
                                    {.layers = row.layers_measured,
                                     .least_layers = least_layers(model, c.sharding),
                                     .steps = measured_steps_room},
                                    backend_, world_);
  row.reason = admission.reason;
  // A calibration knows no kernels of types that are not measured, and is not made where nothing is.
  const bool known = !system.calibrated && !system.name.empty();
  if (!point.skip_reason.empty()) return row;
  const bool runs = why_no_kernels(point, backend_).empty();
  if (runs) row.kernel = backend_.kernel_for(first_ranks_cache(point));
  if (!known && !runs) return row;
  row.prediction = predict(model, c.strategy, c.sharding, c.shape, system);
  row.meets_budget = within(request_.ttl_budget_ms, row.prediction->model_ttl_us);
  if (row.reason.empty()) row.reason = why_not_worth_measuring(request_.ttl_budget_ms, *row.prediction);
  if (!row.reason.empty()) return row;
  const Prediction run =
      predict(truncated(model, row.layers_measured), c.strategy, c.sharding, c.shape, system);
  const double node_ranks = std::min(c.sharding.ranks(), world_.node_ranks);
  const double working_set = node_ranks * (run.kv_bytes_per_rank + run.weight_bytes_per_rank);
  constexpr double cold_multiple = 4;
  if (working_set < cold_multiple * static_cast<double>(world_.node_cache_bytes)) {
    add_caveat(row.reason,
               fmt::format("cache-resident: a step reads {:.2f} GiB per node, caches hold {:.2f} GiB",
                           working_set / gib, static_cast<double>(world_.node_cache_bytes) / gib));
  }
  if (world_.oversubscribed) add_caveat(row.reason, "oversubscribed: more worker threads than CPUs");
  add_caveat(row.reason, long_context(model, c.shape.context));

  row.status = Status::ok;
  const MPI_Comm instance = groups_.first(c.sharding.ranks());
  if (instance != MPI_COMM_NULL) run_in_group(point, admission.memory_bytes, row, instance);
  row.meets_budget = row.measurement ? within(request_.ttl_budget_ms, row.measurement->ttl_us) : std::nullopt;
  set_costs(row, request_.bill, system.board_watts);
  working_on("end of the row");
  const ActivityFlag idle(&Activity::bystander, instance == MPI_COMM_NULL);
  wait_idle(world_.comm);
  return row;
}

void PointRunner::run_in_group(const SweepPoint& point, double memory_bytes, ResultRow& row,
                               MPI_Comm instance) {
  const Configuration& c = point.config;
  const ModelSpec& model = *point.model;
  const EngineRequest engine_request{.model = model,
                                     .sharding = c.sharding,
                                     .shape = c.shape,
                                     .layers = row.layers_measured,
                                     .steps = measured_steps_room,
                                     .seed = request_.seed,
                                     .memory_bytes = memory_bytes,
                                     .weights = weights_};
  const std::string problem = host_.run(engine_request, instance, [&](DecodeEngine& engine) {
    const Verification check = verify(
        engine, model, c.shape, request_.seed,
        {.layers = telling_layers(model, c.sharding, row.layers_measured), .weights = weights_}, instance);
    row.verify_rel_error = check.rel_error;
    if (!check.ok()) {
      row.status = Status::failed;
      row.reason = "verification: " + check.failure;
      return;
    }
    std::optional<HostLoad> load;  // of ranks on this machine
    if (c.sharding.ranks() <= world_.node_ranks) load.emplace(instance);
    row.measurement =
        measure(engine, backend_, model, c.sharding, row.layers_measured, request_.stopping, instance);
    const std::string busy = load ? load_caveat(load->others_cpus(), online_cpus()) : std::string{};
    for (const std::string& caveat : {noise_caveat(*row.measurement), busy}) {
      if (!caveat.empty()) add_caveat(row.reason, caveat);
    }
    speed_log_.add(backend_.speed());  // still under the load of the last step
  });
  if (!problem.empty()) {
    row.status = Status::failed;
    row.reason = problem;
  }
}

}  // namespace helix
