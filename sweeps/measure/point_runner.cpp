#include "sweeps/measure/point_runner.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "kernels/comm/lone_communicator.hpp"
#include "kernels/comm/mpi_check.hpp"
#include "kernels/comm/rank_groups.hpp"
#include "kernels/reference/reference_model.hpp"
#include "roofline/base/arithmetic.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/host_load.hpp"
#include "sweeps/measure/measure.hpp"
#include "sweeps/measure/rank_share.hpp"
#include "sweeps/measure/step_clock.hpp"
#include "sweeps/measure/verify.hpp"
#include "sweeps/results/costs.hpp"
#include "sweeps/results/row_text.hpp"

namespace helix {
namespace {

constexpr double gib = 1024.0 * 1024.0 * 1024.0;

std::string why_not_alone(const ModelSpec& model, const Sharding& sharding) {
  if (model.attention.indexer.heads > 0)
    return "one rank alone does not know which tokens the others would choose: sparse attention needs all "
           "ranks";
  return why_not_alone(sharding);
}

/// `model`: as it is stepped.
std::string draft_caveat(const ModelSpec& model, const DecodeShape& shape) {
  std::string text;
  if (shape.draft_tokens == 0) return text;
  if (model.draft_layers == 0)
    add_caveat(text, "the time of making drafts is not counted, measured or predicted");
  if (shape.acceptance == 0) add_caveat(text, "tokens/s are not known without --acceptance");
  return text;
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

std::optional<bool> within(const std::optional<double>& budget_ms, double token_us) {
  if (!budget_ms) return std::nullopt;
  return token_us <= *budget_ms * 1e3;
}

std::string why_not_worth_measuring(const std::optional<double>& budget_ms, double model_token_us) {
  constexpr double hopeless = 2;  // the model's error is far below that
  if (!budget_ms || model_token_us <= hopeless * *budget_ms * 1e3) return {};
  return fmt::format("not measured: the model says {:.4g} ms a token, more than twice the budget of {:g} ms",
                     model_token_us / 1e3, *budget_ms);
}

PointRunner::PointRunner(const World& world, Backend& backend, RankGroups& groups,
                         const SweepRequest& request, const WeightSource* weights)
    : world_(world),
      backend_(backend),
      groups_(groups),
      request_(request),
      weights_(weights),
      host_(backend, world.memory_bytes) {}

Admission PointRunner::admission(const SweepPoint& point) const {
  Admission admitted = admit(point,
                             {.layers = layers_to_measure(point.config, *point.model),
                              .least_layers = least_layers(*point.model, point.config.sharding),
                              .steps = measured_steps_room},
                             request_.seed, backend_, world_);
  if (!admitted.engine || !request_.as_rank_of || point.config.sharding.ranks() == 1) return admitted;
  if (std::string reason = why_not_alone(*point.model, point.config.sharding); !reason.empty())
    return {std::move(reason)};
  admitted.engine->alone = true;
  return admitted;
}

void PointRunner::reserve(const std::vector<SweepPoint>& points) {
  CacheBytes largest;
  for (const SweepPoint& point : points) {
    const Admission admitted = admission(point);
    if (!admitted.engine || world_.rank >= point.config.sharding.ranks()) continue;
    const RankPlan plan(admitted.engine->instance, world_.rank);
    const CacheBytes caches = DecodeEngine::cache_bytes(plan, admitted.engine->steps, backend_);
    largest.kv = std::max(largest.kv, caches.kv);
    largest.index_keys = std::max(largest.index_keys, caches.index_keys);
  }
  if (largest.kv > 0) host_.reserve(largest);
}

ResultRow PointRunner::run(const SweepPoint& point, const SystemSpec& system) {
  const Configuration& c = point.config;
  const bool runs = why_no_kernels(point, backend_).empty();
  const ModelSpec model = runs ? as_stepped(*point.model, c.sharding, c.shape) : *point.model;
  ResultRow row;
  row.id = configuration_id(c);
  row.config = c;
  row.system = system.name;
  row.backend = backend_.name();
  row.layers_total = model.layers;
  row.layers_measured = layers_to_measure(c, model);
  row.figures = model_figures(model, c.shape);
  row.status = Status::skipped;
  const Admission admitted = admission(point);
  row.reason = admitted.reason;
  // A calibration knows no kernels of types that are not measured, and is not made where nothing is.
  const bool known = !system.calibrated && !system.name.empty();
  if (!point.skip_reason.empty()) return row;
  if (runs) row.kernel = backend_.kernel_for(first_ranks_cache(point));
  if (!known && !runs) return row;
  row.prediction = predict({model, c.sharding, c.shape}, system);
  const double model_token_us = c.shape.token_us(row.prediction->model_ttl_us);
  row.meets_budget = within(request_.ttl_budget_ms, model_token_us);
  if (row.reason.empty()) row.reason = why_not_worth_measuring(request_.ttl_budget_ms, model_token_us);
  if (!row.reason.empty()) return row;
  const Prediction run = predict({truncated(model, row.layers_measured), c.sharding, c.shape}, system);
  const bool alone = admitted.engine->alone;
  const double node_ranks = std::min(c.sharding.ranks(), world_.node_ranks);
  const double working_set = node_ranks * (run.kv_bytes_per_rank + run.weight_bytes_per_rank);
  constexpr double cold_multiple = 4;
  if (working_set < cold_multiple * static_cast<double>(world_.node_cache_bytes)) {
    add_caveat(row.reason,
               fmt::format("cache-resident: a step reads {:.2f} GiB per node, caches hold {:.2f} GiB",
                           working_set / gib, static_cast<double>(world_.node_cache_bytes) / gib));
  }
  if (c.shape.kernels != KernelMaker::own) {
    add_caveat(row.reason, fmt::format("attention of {}, which no GPU had run from here before this version",
                                       name(c.shape.kernels)));
  }
  if (world_.oversubscribed) add_caveat(row.reason, "oversubscribed: more worker threads than CPUs");

  add_caveat(row.reason, long_context(model, c.shape.context));
  if (const std::string caveat = draft_caveat(model, c.shape); !caveat.empty())
    add_caveat(row.reason, caveat);

  if (alone)
    add_caveat(row.reason, fmt::format("one rank of {}, not verified; exchanges as on {}", c.sharding.ranks(),
                                       system.name));
  row.status = alone ? Status::one_rank : Status::ok;
  const MPI_Comm instance = groups_.first(alone ? 1 : c.sharding.ranks());
  if (measured_before(c)) {
    row.reason = last_->reason;
    row.measurement = last_->measurement;
    row.share = last_->share;
    row.verify_rel_error = last_->verify_rel_error;
  } else if (instance != MPI_COMM_NULL) {
    run_in_group(*admitted.engine, row, instance);
  }
  last_ = row;
  row.meets_budget = row.measurement
                         ? within(request_.ttl_budget_ms, c.shape.token_us(row.measurement->ttl_us))
                     : row.share ? within(request_.ttl_budget_ms, c.shape.token_us(row.share->composed_us()))
                                 : std::nullopt;
  set_costs(row, request_.bill, system.board_watts);
  working_on("end of the row");
  const ActivityFlag idle(&Activity::bystander, instance == MPI_COMM_NULL);
  wait_idle(world_.comm);
  return row;
}

bool PointRunner::measured_before(const Configuration& config) const {
  if (!last_ || config.shape.draft_tokens == 0) return false;
  Configuration same = config;
  same.shape.acceptance = last_->config.shape.acceptance;
  return configuration_id(same) == last_->id &&
         (last_->status == Status::ok || last_->status == Status::one_rank);
}

void PointRunner::run_in_group(EngineRequest request, ResultRow& row, MPI_Comm instance) {
  request.weights = weights_;
  const std::string problem = host_.run(request, instance, [&](DecodeEngine& engine) {
    if (request.alone) {
      measure_engine(engine, row, instance);
      const int pieces = engine.plan().attention().pieces(engine.plan().largest().attended.size()).count;
      row.share = rank_share(*std::exchange(row.measurement, std::nullopt), *row.prediction, pieces);
      return;
    }
    const std::vector<std::int64_t> layers = telling_layers(request.instance);
    const double work = reference::attention_work({.model = request.instance.model(),
                                                   .layers = layers,
                                                   .context = request.instance.shape().context}) *
                        real(request.instance.shape().query_tokens());
    const Verification check =
        verify(engine,
               {.layers = layers,
                .max_requests = requests_to_follow(work, request.instance.sharding().ranks()),
                .threads = world_.host_threads,
                .weights = weights_},
               instance);
    row.verify_rel_error = check.rel_error;
    if (!check.ok()) {
      row.status = Status::wrong;
      row.reason = check.failure;
      return;
    }
    measure_engine(engine, row, instance);
  });
  if (!problem.empty()) {
    row.status = Status::failed;
    row.reason = problem;
  }
}

void PointRunner::measure_engine(DecodeEngine& engine, ResultRow& row, MPI_Comm instance) {
  int ranks = 0;
  HELIX_MPI(MPI_Comm_size(instance, &ranks));
  std::optional<HostLoad> load;  // of ranks on this machine
  if (ranks <= world_.node_ranks) load.emplace(instance);
  row.measurement = measure(engine, backend_, request_.stopping, instance);
  const std::string busy = load ? load_caveat(load->others_cpus(), online_cpus()) : std::string{};
  for (const std::string& caveat : {noise_caveat(*row.measurement), busy}) {
    if (!caveat.empty()) add_caveat(row.reason, caveat);
  }
  speed_log_.add(backend_.speed());  // still under the load of the last step
}

}  // namespace helix
