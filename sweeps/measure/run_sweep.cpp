#include "sweeps/measure/run_sweep.hpp"

#include <fmt/ranges.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <optional>
#include <span>
#include <thread>
#include <tuple>

#include "kernels/comm/mpi_check.hpp"
#include "roofline/base/error.hpp"
#include "sweeps/launch/activity.hpp"
#include "sweeps/launch/backend_choice.hpp"
#include "sweeps/launch/broadcast.hpp"
#include "sweeps/launch/host_load.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/launch/progress.hpp"
#include "sweeps/launch/stop_signals.hpp"
#include "sweeps/launch/watchdog.hpp"
#include "sweeps/measure/measured_systems.hpp"
#include "sweeps/measure/point_runner.hpp"
#include "sweeps/measure/text_points.hpp"
#include "sweeps/output/provenance.hpp"
#include "sweeps/output/row_line.hpp"
#include "sweeps/output/table.hpp"
#include "sweeps/request/resumed_request.hpp"
#include "sweeps/results/costs.hpp"
#include "sweeps/results/run_directory.hpp"

namespace helix {
namespace {

/// Points of one sharding follow each other, so that its weights are loaded once.
void order_by_sharding(std::vector<SweepPoint>& points) {
  const auto key = [](const SweepPoint& p) {
    const Sharding& s = p.config.sharding;
    return std::tuple(p.config.model, p.config.layers, s.ranks(), s.kvp, s.tpa, s.tpf, s.ep, s.pp, s.dp,
                      p.config.shape.kv_dtype, p.config.shape.context, p.config.shape.batch);
  };
  std::ranges::stable_sort(points, {}, key);
}

std::string system_choice(const SweepRequest& request) {
  if (request.systems.empty()) return "auto";
  if (request.systems.size() == 1) return request.systems.front();
  throw UsageError(
      fmt::format("--system {}: a sweep stands beside the prediction of one system; valid: one "
                  "of them, or predict, which compares systems",
                  fmt::join(request.systems, ",")));
}

/// `--hop-b on`: as many pieces as the model finds best, one a request where it knows no better.
void settle_hop_b(SweepPoint& point, const SystemSpec& system) {
  DecodeShape& shape = point.config.shape;
  const std::vector<int> candidates = hop_b_candidates(shape.batch / point.config.sharding.dp);
  shape.hop_b = candidates.empty() ? 1 : candidates.back();
  if (system.name.empty()) return;
  const auto predicted_us = [&](int count) {
    DecodeShape tried = shape;
    tried.hop_b = count;
    return predict({*point.model, point.config.sharding, tried}, system).model_ttl_us;
  };
  try {
    if (!candidates.empty()) shape.hop_b = *std::ranges::min_element(candidates, {}, predicted_us);
  } catch (const UsageError&) {
    // A calibration knows no kernels of types that are not measured.
  }
}

/// What --as-rank-of asks of the launch and of the other flags.
void require_one_rank(const SweepRequest& request, const World& world) {
  if (!request.as_rank_of) return;
  if (world.size > 1) {
    throw UsageError(fmt::format("--as-rank-of {}: one rank runs, and this launch has {}; valid: no mpirun",
                                 *request.as_rank_of, world.size));
  }
  if (system_choice(request) == "auto") {
    throw UsageError(
        fmt::format("--as-rank-of {}: one rank cannot measure what {} exchange; valid with --system NAME "
                    "(built in: {}) or a "
                    "FILE that helix-bench calibrate wrote on as many ranks",
                    *request.as_rank_of, *request.as_rank_of, fmt::join(built_in_systems(), ", ")));
  }
}

EngineProvenance engine_provenance(const SweepRequest& request, const World& world, const Backend& backend,
                                   const MeasuredSystems& systems) {
  EngineProvenance engine{.backend = backend.name(),
                          .kernel = backend.kernel_path(),
                          .device = backend.device_name(),
                          .device_conditions = backend.conditions(),
                          .world_ranks = world.size,
                          .threads_per_rank = world.threads,
                          .placement = world.placement,
                          .system = system_choice(request),
                          .calibration_yaml = {}};
  if (system_choice(request) == "auto") {
    for (const auto& [ranks, system] : systems.all()) engine.calibration_yaml += "---\n" + to_yaml(system);
  }
  return engine;
}

/// What others do while all ranks rest for a moment; empty: nothing to speak of, or ranks
/// of several machines.
std::string busy_before(const World& world) {
  if (world.size > world.node_ranks) return {};
  const HostLoad load(world.comm);
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const std::string busy = load_caveat(load.others_cpus(), online_cpus());
  return busy.empty() ? busy : busy + " just before the run: its times will be theirs, too";
}

std::string trust_text(std::span<const ResultRow> rows) {
  const auto ok = std::ranges::count_if(rows, [](const ResultRow& row) { return is_timed(row.status); });
  const auto good = std::ranges::count_if(rows, trusted);
  if (ok == good) return fmt::format("\n{} rows, none of them noisy.\n", ok);
  return fmt::format(
      "\n{} of {} rows can be trusted; the others say why in their note: a quiet machine or more --max-time "
      "helps.\n",
      good, ok);
}

[[noreturn]] void break_off(RunDirectory& directory, const std::string& signal, std::size_t points) {
  directory.break_off({{"end_time", utc_now()}, {"broken_off_by", signal}});
  throw BrokenOff(fmt::format("{} after {} of {} rows, which are on disk; to go on: --resume --out {}",
                              signal, directory.rows().size(), points, directory.path().string()));
}

/// Writes what the rows of a lost run say where they still can be found.
[[noreturn]] void break_off_lost(const LostRun& lost) {
  const ActivityFlag printing(&Activity::unwatched);
  fmt::print("{}", lost.results_csv);
  std::fflush(stdout);
  throw BrokenOff(lost.what());
}

/// As soon as a row is on disk, for programs that follow the run.
void print_line(const ResultRow& row) {
  const ActivityFlag printing(&Activity::unwatched);
  fmt::print("{}", format_json_line(row));
  std::fflush(stdout);
}

}  // namespace

int run_sweep(const SweepRequest& request) {
  World world = describe_world(MPI_COMM_WORLD, request.memory_fraction);
  require_one_rank(request, world);
  const int most_ranks = request.as_rank_of.value_or(world.size);  // of an instance
  ModelTable models = load_models(request.blocks);
  const std::unique_ptr<Checkpoint> weights = open_checkpoint(request, models.begin()->second);
  if (weights && !weights->has_draft_layer()) models.begin()->second.draft_layers = 0;
  std::vector<SweepPoint> points = enumerate(request.blocks, models, {.max_ranks = most_ranks}, most_ranks);
  order_by_sharding(points);
  const std::unique_ptr<Backend> backend = make_backend(request.backend, world);

  RankGroups groups(world.comm);
  MeasuredSystems systems(system_choice(request), world, *backend, groups);
  require_board_power(request.bill,
                      systems.of(most_ranks));  // of one that is named: others are yet to be calibrated
  std::optional<RunDirectory> directory;        // on rank 0
  const nlohmann::ordered_json lasting = lasting_request(request, models, world.size);
  on_root([&] {
    directory.emplace(request.out, request.resume);
    refuse_other_request(directory->earlier_run(), lasting, directory->path().string());
    for (const std::string& mended : directory->mended()) fmt::print(stderr, "helix-bench: {}\n", mended);
  });
  advise_on_stall(fmt::format("; its rows are on disk, to go on: --resume --out {}",
                              broadcast_text(directory ? directory->path().string() : "", 0, world.comm)));
  // On rank 0, and known to all.
  const auto with_directory = [&](const std::function<void()>& action) {
    on_root([&] {
      try {
        action();
      } catch (const LostRun& lost) {
        break_off_lost(lost);
      }
    });
  };
  const auto finished = [&](const std::string& id) {
    with_directory([&] { directory->require_in_place(); });
    int held = directory && directory->holds(id) ? 1 : 0;
    HELIX_MPI(MPI_Bcast(&held, 1, MPI_INT, 0, world.comm));
    return held != 0;
  };

  const StopSignals stop;
  Progress progress(points.size(), world.rank == 0 && !request.quiet);
  if (const std::string busy = busy_before(world); !busy.empty()) progress.say(busy);
  progress.running("calibrating");
  working_on("calibrating");
  systems.prepare(points);
  points = enumerate(
      request.blocks, models,
      {.max_ranks = most_ranks,
       .settle = [&](SweepPoint& point) { settle_hop_b(point, systems.of(point.config.sharding.ranks())); }},
      most_ranks);
  order_by_sharding(points);
  progress.clear();
  for (const auto& [ranks, system] : systems.all()) {
    const std::string noisy = noisy_figures(system);
    if (world.rank != 0 || noisy.empty()) continue;
    fmt::print(stderr,
               "helix-bench: noisy calibration of {}, though measured anew: {}; the machine is busy\n",
               system.name, noisy);
  }
  on_root([&] {
    auto run = run_provenance(request, engine_provenance(request, world, *backend, systems));
    run["request"] = lasting;
    directory->begin(run);
  });

  PointRunner runner(world, *backend, groups, request, weights.get());
  runner.reserve(points);
  for (const SweepPoint& point : points) {
    if (const std::string signal = stop.agreed(world.comm); !signal.empty()) {
      progress.clear();
      on_root([&] { break_off(*directory, signal, points.size()); });
    }
    const std::string id = configuration_id(point.config);
    progress.running(id);
    working_on_row(id);
    if (!finished(id)) {
      const ResultRow row = runner.run(point, systems.of(point.config.sharding.ranks()));
      working_on("writing the row");
      with_directory([&] { directory->append(row); });
      progress.finished(row_line(row));
    } else {
      progress.finished();
    }
    if (directory && request.output == OutputFormat::json_lines) print_line(directory->row(id));
  }
  progress.clear();

  working_on_row("");
  working_on("finishing the run");
  const nlohmann::ordered_json speeds = runner.speed_log().gather(world.comm);
  with_directory([&] {
    directory->require_in_place();
    directory->finish({{"end_time", utc_now()},
                       {"device_at_end", to_json(backend->conditions())},
                       {"devices_measured", speeds}});
    if (request.output == OutputFormat::json_lines) return;
    if (request.quiet && request.output == OutputFormat::table) return;
    const ActivityFlag printing(&Activity::unwatched);
    fmt::print("{}", format_rows(rows_to_print(directory->rows(), request.output), request.output));
    if (request.quiet || request.output != OutputFormat::table) return;
    if (request.ttl_budget_ms) fmt::print("\n{}", budget_text(directory->rows(), *request.ttl_budget_ms));
    fmt::print("{}{}", trust_text(directory->rows()), left_out_text(models));
    if (world.oversubscribed) {
      fmt::print("\nMore worker threads than CPUs: these times say little about this machine.\n");
    }
    for (const char* file : {"results.csv", "pareto.csv", "samples.csv", "run.json"}) {
      fmt::print("{}\n", (directory->path() / file).string());
    }
  });
  return 0;
}

}  // namespace helix
