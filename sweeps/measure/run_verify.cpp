#include "sweeps/measure/run_verify.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "kernels/comm/mpi_check.hpp"
#include "kernels/comm/rank_groups.hpp"
#include "kernels/reference/reference_model.hpp"
#include "roofline/base/arithmetic.hpp"
#include "roofline/base/csv.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/backend_choice.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/launch/progress.hpp"
#include "sweeps/measure/engine_host.hpp"
#include "sweeps/measure/point_runner.hpp"
#include "sweeps/measure/step_clock.hpp"
#include "sweeps/measure/verify.hpp"

namespace helix {
namespace {

struct VerifyRow {
  std::string id;
  Status status = Status::skipped;
  std::string reason;
  std::int64_t layers = 0, steps = 0;
  Verification result;
};

CsvRecord header() {
  return {"id", "status", "reason", "layers", "steps", "rel_error", "max_error", "tolerance"};
}

CsvRecord record(const VerifyRow& row) {
  const bool ran = row.steps > 0;
  const auto number = [&](double x) {
    return ran && std::isfinite(x) ? fmt::format("{:.4g}", x) : std::string();
  };
  return {row.id,
          std::string(name(row.status)),
          row.reason,
          ran ? std::to_string(row.layers) : "",
          ran ? std::to_string(row.steps) : "",
          number(row.result.rel_error),
          number(row.result.max_error),
          number(row.result.tolerance)};
}

nlohmann::ordered_json to_json(const VerifyRow& row) {
  nlohmann::ordered_json object{{"id", row.id}, {"status", name(row.status)}, {"reason", row.reason}};
  if (row.steps > 0) {
    object.update({{"layers", row.layers},
                   {"steps", row.steps},
                   {"rel_error", row.result.rel_error},
                   {"max_error", row.result.max_error},
                   {"tolerance", row.result.tolerance}});
  }
  return object;
}

void print(const std::vector<VerifyRow>& rows, OutputFormat format) {
  if (format == OutputFormat::json_lines) return;  // already printed, one by one
  const ActivityFlag printing(&Activity::unwatched);
  if (format == OutputFormat::csv) {
    fmt::print("{}", csv_line(header()));
    for (const VerifyRow& row : rows) fmt::print("{}", csv_line(record(row)));
    return;
  }
  if (format == OutputFormat::json) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const VerifyRow& row : rows) list.push_back(to_json(row));
    fmt::print("{}\n", list.dump(2));
    return;
  }
  fmt::print("{:<72} {:>8} {:>10} {:>10} {:>10}  {}\n", "configuration", "status", "rel error", "max error",
             "allowed", "");
  for (const VerifyRow& row : rows) {
    const CsvRecord fields = record(row);
    fmt::print("{:<72} {:>8} {:>10} {:>10} {:>10}  {}\n", row.id, name(row.status), fields[5], fields[6],
               fields[7], row.reason);
  }
}

}  // namespace

int run_verify(const SweepRequest& request) {
  World world = describe_world(MPI_COMM_WORLD, request.memory_fraction);
  const ModelTable models = load_models(request.blocks);
  const std::vector<SweepPoint> points =
      enumerate(request.blocks, models, {.max_ranks = world.size}, world.size);
  const std::unique_ptr<Backend> backend = make_backend(request.backend, world);
  RankGroups groups(world.comm);
  Progress progress(points.size(), world.rank == 0 && !request.quiet);
  EngineHost host(*backend, world.memory_bytes);

  std::vector<VerifyRow> rows;
  std::shared_ptr<reference::SyntheticWeights> synthetic;
  const ModelSpec* synthetic_of = nullptr;
  for (const SweepPoint& point : points) {
    const Configuration& c = point.config;
    VerifyRow row;
    row.id = configuration_id(c);
    progress.running(row.id);
    working_on_row(row.id);
    const ModelSpec& model = *point.model;
    if (std::exchange(synthetic_of, &model) != &model)
      synthetic = std::make_shared<reference::SyntheticWeights>();
    // As few layers as show every kind of layer on every stage, unless --layers says otherwise.
    const std::int64_t held =
        c.layers > 0 ? std::min(c.layers, model.layers) : least_layers(model, c.sharding);
    const double step_work =
        reference::attention_work(
            {.model = model, .layers = reference::first_layers(held), .context = c.shape.context}) *
        real(c.shape.query_tokens());
    const OwnerChange change =
        steps_to_owner_change(c.shape.tokens_per_block, c.shape.query_tokens(), step_work);
    const Admission admission =
        admit(point, {.layers = held, .least_layers = c.sharding.pp, .steps = change.steps}, request.seed,
              *backend, world);
    row.reason = admission.reason;
    if (admission.engine) {
      const std::vector<std::int64_t> layers =
          c.layers > 0 ? reference::first_layers(held) : telling_layers(admission.engine->instance);
      row.layers = std::ssize(layers);
      row.steps = change.steps;
      if (const MPI_Comm instance = groups.first(c.sharding.ranks()); instance != MPI_COMM_NULL) {
        row.reason = host.run(*admission.engine, instance, [&](DecodeEngine& engine) {
          row.result =
              verify(engine,
                     {.steps = row.steps,
                      .first_turn = change.first_turn,
                      .acceptance = c.shape.draft_tokens > 0 ? c.shape.acceptance : 0,
                      .layers = layers,
                      .max_requests = requests_to_follow(real(change.steps) * step_work, c.sharding.ranks()),
                      .threads = world.host_threads,
                      .first_compared_step = change.first_compared,
                      .synthetic = synthetic},
                     instance);
        });
      }
      row.status = Status::ok;
      if (!row.reason.empty()) {
        row.status = Status::failed;
        row.steps = 0;  // nothing has run
      } else if (!row.result.ok()) {
        row.status = Status::wrong;
        row.reason = row.result.failure;
      }
      working_on("end of the row");
      const ActivityFlag idle(&Activity::bystander, groups.first(c.sharding.ranks()) == MPI_COMM_NULL);
      wait_idle(world.comm);
    }
    rows.push_back(row);
    if (world.rank == 0 && !request.quiet && request.output == OutputFormat::json_lines) {
      const ActivityFlag printing(&Activity::unwatched);
      fmt::print("{}\n", to_json(row).dump());
      std::fflush(stdout);
    }
    progress.finished();
  }
  progress.clear();

  int failures = 0;
  for (const VerifyRow& row : rows) failures += is_failure(row.status) ? 1 : 0;
  const bool wanted = !request.quiet || request.output != OutputFormat::table;
  if (world.rank == 0 && wanted) print(rows, request.output);
  // Rank 0 is in every group, so it knows every row.
  HELIX_MPI(MPI_Bcast(&failures, 1, MPI_INT, 0, world.comm));
  return failures == 0 ? 0 : 1;
}

}  // namespace helix
