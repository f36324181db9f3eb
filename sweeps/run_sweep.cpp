#include "sweeps/run_sweep.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <optional>
#include <tuple>

#include "kernels/mpi_check.hpp"
#include "sweeps/activity.hpp"
#include "sweeps/backend_choice.hpp"
#include "sweeps/broadcast.hpp"
#include "sweeps/measured_systems.hpp"
#include "sweeps/mpi_session.hpp"
#include "sweeps/point_runner.hpp"
#include "sweeps/progress.hpp"
#include "sweeps/provenance.hpp"
#include "sweeps/results.hpp"
#include "sweeps/stop_signals.hpp"
#include "sweeps/table.hpp"
#include "sweeps/watchdog.hpp"

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

EngineProvenance engine_provenance(const SweepRequest& request, const World& world, const Backend& backend,
                                   const MeasuredSystems& systems) {
  EngineProvenance engine{.backend = backend.name(),
                          .kernel = backend.kernel_path(),
                          .device = backend.device_name(),
                          .device_conditions = backend.conditions(),
                          .world_ranks = world.size,
                          .threads_per_rank = world.threads,
                          .placement = world.placement,
                          .system = request.system,
                          .calibration_yaml = {}};
  if (request.system == "auto") {
    for (const auto& [ranks, system] : systems.all()) engine.calibration_yaml += "---\n" + to_yaml(system);
  }
  return engine;
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
  World world = describe_world(MPI_COMM_WORLD);
  const ModelTable models = load_models(request.blocks);
  for (const auto& [name, model] : models) require_runnable(model);
  std::vector<SweepPoint> points = enumerate(request.blocks, models, {.max_ranks = world.size}, world.size);
  order_by_sharding(points);
  const std::unique_ptr<Backend> backend = make_backend(request.backend, world);

  RankGroups groups(world.comm);
  MeasuredSystems systems(request.system, world, *backend, groups);
  std::optional<RunDirectory> directory;  // on rank 0
  on_root([&] {
    directory.emplace(request.out, request.resume);
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
  progress.running("calibrating");
  working_on("calibrating");
  systems.prepare(points);
  on_root([&] {
    directory->begin(run_provenance(request, engine_provenance(request, world, *backend, systems)));
  });

  PointRunner runner(world, *backend, groups, request);
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
    }
    if (directory && request.output == OutputFormat::json_lines) print_line(directory->row(id));
    progress.finished();
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
    if (request.quiet || request.output == OutputFormat::json_lines) return;
    const ActivityFlag printing(&Activity::unwatched);
    fmt::print("{}", format_rows(directory->rows(), request.output));
    if (request.output != OutputFormat::table) return;
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
