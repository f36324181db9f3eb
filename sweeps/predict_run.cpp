#include "sweeps/predict_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "roofline/error.hpp"
#include "roofline/planner.hpp"
#include "roofline/system_spec.hpp"
#include "roofline/validate.hpp"
#include "sweeps/csv.hpp"
#include "sweeps/enumerate.hpp"
#include "sweeps/mpi_session.hpp"
#include "sweeps/plan_summary.hpp"
#include "sweeps/provenance.hpp"
#include "sweeps/result_columns.hpp"
#include "sweeps/results.hpp"
#include "sweeps/table.hpp"

namespace helix {
namespace {

constexpr std::size_t most_printed_rows = 60;

/// A request without --context and --batch: a million tokens, and batches up to what memory may hold.
SweepDefaults defaults() {
  SweepDefaults d{.max_ranks = 64, .contexts = {1 << 20}, .batches = {}};
  for (std::int64_t batch = 1; batch <= 1024; batch *= 2) d.batches.push_back(batch);
  return d;
}

/// `auto` would calibrate this machine, which predicting does not touch.
SystemSpec system_of(const SweepRequest& request) {
  return load_system(request.system == "auto" ? "gb200" : request.system);
}

using VisitPoint = std::function<void(const SweepPoint&)>;

void for_each_point(const SweepRequest& request, const ModelTable& models, const VisitPoint& visit) {
  const SweepDefaults unset = defaults();
  for (const SweepSpace& block : request.blocks) helix::for_each_point(block, models, unset, visit);
}

/// The request's points with their predictions; `ordinal` counts those that fit the memory.
class Sweep {
 public:
  Sweep(const SweepRequest& request, const SystemSpec& system)
      : request_(request), system_(system), models_(load_models(request.blocks)) {
    for (const auto& [name, model] : models_) planners_.try_emplace(&model, model, system);
  }

  /// Calls visit(point, prediction or null, ordinal if it fits); predicted points that do not fit have a
  /// reason.
  template <class Visit>
  void walk(Visit visit) {
    std::size_t ordinal = 0;
    for_each_point(request_, models_, [&](const SweepPoint& point) {
      if (!point.skip_reason.empty()) return visit(point, nullptr, ordinal);
      const Prediction p = planners_.at(point.model).predict(point.config.sharding, point.config.shape);
      if (p.memory_bytes_per_rank <= system_.dram.capacity_bytes) return visit(point, &p, ordinal++);
      SweepPoint too_large = point;
      too_large.skip_reason = fmt::format("does not fit memory: needs {:.0f} bytes per rank, has {:.0f}",
                                          p.memory_bytes_per_rank, system_.dram.capacity_bytes);
      visit(too_large, &p, ordinal);
    });
  }

  ResultRow row(const SweepPoint& point, const Prediction* prediction) const {
    ResultRow r;
    r.id = configuration_id(point.config);
    r.config = point.config;
    r.status = point.skip_reason.empty() ? Status::ok : Status::skipped;
    r.reason = point.skip_reason;
    r.system = system_.name;
    r.backend = "model";
    r.layers_total = point.model->layers;
    if (prediction) r.prediction = *prediction;
    return r;
  }

 private:
  const SweepRequest& request_;
  const SystemSpec& system_;
  ModelTable models_;
  std::map<const ModelSpec*, Planner> planners_;
};

class RowFile {
 public:
  explicit RowFile(const std::filesystem::path& path) : path_(path), out_(path, std::ios::binary) {
    out_ << csv_line(result_header());
  }
  void append(const ResultRow& row) {
    if (!(out_ << csv_line(to_record(row)))) fail();
  }
  /// Everything has been written, or it throws.
  void close() {
    out_.close();
    if (!out_) fail();
  }

 private:
  [[noreturn]] void fail() const {
    throw std::runtime_error(fmt::format("cannot write '{}': disk full?", path_.string()));
  }

  std::filesystem::path path_;
  std::ofstream out_;
};

int predict_sweep(const PredictRequest& request) {
  if (request.sweep.resume)
    throw UsageError("--resume: predict starts anew in seconds; valid: sweep --resume");
  const SystemSpec system = system_of(request.sweep);
  Sweep sweep(request.sweep, system);

  PlanSummary summary(request.sweep.ttl_budget_ms, request.top);
  std::size_t fitting = 0, skipped = 0;
  sweep.walk([&](const SweepPoint& point, const Prediction* prediction, std::size_t ordinal) {
    if (!point.skip_reason.empty()) {
      ++skipped;
      return;
    }
    ++fitting;
    summary.add(ordinal, point, *prediction);
  });
  summary.close();
  if (fitting + skipped == 0) {
    throw UsageError(
        "no configuration: the lists admit none with ranks = pp x dp x kvp x tpa and dp x kvp x tpa = tpf x "
        "ep");
  }

  const std::filesystem::path directory = new_run_directory(request.sweep.out);
  nlohmann::ordered_json run = run_provenance(request.sweep, {.backend = "model",
                                                              .kernel = {},
                                                              .device = system.device,
                                                              .world_ranks = 0,
                                                              .threads_per_rank = 1,
                                                              .placement = {},
                                                              .system = system.name,
                                                              .calibration_yaml = {}});
  const std::vector<std::size_t> answers = summary.budget_answers();
  const bool print_all = fitting + skipped <= most_printed_rows && !request.sweep.ttl_budget_ms;
  std::vector<ResultRow> printed;
  {
    RowFile results(directory / "results.csv"), pareto(directory / "pareto.csv");
    sweep.walk([&](const SweepPoint& point, const Prediction* prediction, std::size_t ordinal) {
      const bool fits = point.skip_reason.empty();
      if (fits ? !summary.is_kept(ordinal) : request.top > 0) return;
      ResultRow row = sweep.row(point, prediction);
      row.pareto = fits && summary.on_frontier(ordinal);
      results.append(row);
      if (row.pareto) pareto.append(row);
      const bool answer = fits && std::ranges::find(answers, ordinal) != answers.end();
      if (print_all || (request.sweep.ttl_budget_ms ? answer : row.pareto)) printed.push_back(std::move(row));
    });
    results.close();
    pareto.close();
  }
  write_atomically(directory / "crossover.csv", summary.crossover_csv());
  run["configurations"] = fitting + skipped;
  run["end_time"] = utc_now();
  run["complete"] = true;
  write_atomically(directory / "run.json", run.dump(2) + "\n");

  if (request.sweep.quiet) return 0;
  fmt::print("{}", format_rows(printed, request.sweep.output));
  if (request.sweep.output != OutputFormat::table) return 0;
  if (request.sweep.ttl_budget_ms) {
    fmt::print("\nMost tokens/s/GPU of each strategy within {:g} ms a token{}.\n",
               *request.sweep.ttl_budget_ms, printed.empty() ? ": none is that fast" : "");
  }
  fmt::print("\n{} configurations on {}, {} of them on the frontier; {} skipped (see results.csv)\n", fitting,
             system.name, summary.frontier_size(), skipped);
  for (const char* file : {"results.csv", "pareto.csv", "crossover.csv", "run.json"}) {
    fmt::print("{}\n", (directory / file).string());
  }
  return 0;
}

/// DIR/residuals.csv: what a fit minimises (roofline/fit).
void write_residuals(const std::filesystem::path& directory, const Validation& validation) {
  std::string text = "family,line,measured_us,model_us\n";
  for (const Residual& r : validation.residuals) {
    text += fmt::format("{},{},{},{}\n", csv_field(r.family), r.line, r.measured_us, r.model_us);
  }
  std::filesystem::create_directories(directory);
  write_atomically(directory / "residuals.csv", text);
}

int validate_file(const PredictRequest& request) {
  // The rows' devices name the systems; one that is given stands for all of them.
  std::optional<SystemSpec> system;
  if (request.sweep.system != "auto") system = load_system(request.sweep.system);
  const Validation result = validate(request.validate.string(), system ? &*system : nullptr);
  if (!request.sweep.out.empty()) write_residuals(request.sweep.out, result);
  switch (request.sweep.output) {
    case OutputFormat::json: {
      nlohmann::ordered_json all = nlohmann::ordered_json::object();
      for (const FamilyError& f : result.families) {
        all[f.family] = {{"rows", f.rows}, {"mdape", f.mdape}, {"mape", f.mape}, {"p90", f.p90}};
      }
      fmt::print("{}\n", all.dump(2));
      return 0;
    }
    case OutputFormat::csv:
      fmt::print("family,rows,mdape,mape,p90\n");
      for (const FamilyError& f : result.families) {
        fmt::print("{},{},{:.4f},{:.4f},{:.4f}\n", csv_field(f.family), f.rows, f.mdape, f.mape, f.p90);
      }
      return 0;
    case OutputFormat::table:
      break;
  }
  fmt::print("absolute error of the model, %      rows   median     mean      p90\n");
  for (const FamilyError& f : result.families) {
    fmt::print("{:<32} {:>7} {:>8.2f} {:>8.2f} {:>8.2f}\n", f.family, f.rows, f.mdape, f.mape, f.p90);
  }
  for (const auto& [reason, rows] : result.left_out) fmt::print("left out: {} rows, {}\n", rows, reason);
  return 0;
}

/// How fast the model answers, the enumeration of the request aside.
int benchmark(const PredictRequest& request) {
  constexpr std::size_t most_points = 1'000'000;
  const SystemSpec system = system_of(request.sweep);
  const ModelTable models = load_models(request.sweep.blocks);
  std::vector<SweepPoint> points;
  for_each_point(request.sweep, models, [&](const SweepPoint& point) {
    if (point.skip_reason.empty() && points.size() < most_points) points.push_back(point);
  });
  if (points.empty()) throw UsageError("--bench: no legal configuration in the request");

  // A planner prices each part of a step once, as in a sweep; the first pass fills its tables.
  std::map<const ModelSpec*, Planner> planners;
  for (const auto& [name, model] : models) planners.try_emplace(&model, model, system);
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  double seconds = 0, fastest = 0;
  std::size_t predicted = 0;
  do {
    for (const SweepPoint& point : points) {
      const Prediction p = planners.at(point.model).predict(point.config.sharding, point.config.shape);
      fastest = std::max(fastest, p.tokens_per_s_user);
    }
    predicted += points.size();
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  } while (seconds < 1);
  const double rate = static_cast<double>(predicted) / seconds;
  if (request.sweep.output == OutputFormat::json) {
    fmt::print("{}\n", nlohmann::ordered_json{{"configurations", points.size()},
                                              {"configurations_per_second", rate},
                                              {"fastest_tokens_per_s_user", fastest}}
                           .dump(2));
  } else {
    fmt::print(
        "{:.2f} million configurations per second on one core ({} configurations, fastest {:.1f} "
        "tokens/s/user)\n",
        rate / 1e6, points.size(), fastest);
  }
  return 0;
}

}  // namespace

int run_predict(const PredictRequest& request) {
  if (launched_rank() != 0) return 0;
  if (!request.validate.empty()) return validate_file(request);
  if (request.bench) return benchmark(request);
  return predict_sweep(request);
}

}  // namespace helix
