#include "sweeps/predict_run.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "roofline/error.hpp"
#include "sweeps/csv.hpp"
#include "sweeps/mpi_session.hpp"
#include "sweeps/plan_summary.hpp"
#include "sweeps/planned_sweep.hpp"
#include "sweeps/predict_rate.hpp"
#include "sweeps/provenance.hpp"
#include "sweeps/result_columns.hpp"
#include "sweeps/results.hpp"
#include "sweeps/table.hpp"
#include "sweeps/validate_run.hpp"

namespace helix {
namespace {

constexpr std::size_t most_printed_rows = 60;

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

std::string names(const std::vector<SystemSpec>& systems) {
  std::string text;
  for (const SystemSpec& system : systems) text += (text.empty() ? "" : ", ") + system.name;
  return text;
}

/// results.csv and its companions.
class PlanDirectory {
 public:
  PlanDirectory(const PredictRequest& request, const std::vector<SystemSpec>& systems)
      : path_(new_run_directory(request.sweep.out)),
        results_(path_ / "results.csv"),
        pareto_(path_ / "pareto.csv"),
        run_(run_provenance(request.sweep, {.backend = "model",
                                            .kernel = {},
                                            .device = systems.size() == 1 ? systems.front().device : "",
                                            .world_ranks = 0,
                                            .threads_per_rank = 1,
                                            .placement = {},
                                            .system = names(systems),
                                            .calibration_yaml = {}})) {}

  void append(const ResultRow& row) {
    results_.append(row);
    if (row.pareto) pareto_.append(row);
  }
  void finish(std::size_t configurations, const std::string& crossover_csv) {
    results_.close();
    pareto_.close();
    write_atomically(path_ / "crossover.csv", crossover_csv);
    run_["configurations"] = configurations;
    run_["end_time"] = utc_now();
    run_["complete"] = true;
    write_atomically(path_ / "run.json", run_.dump(2) + "\n");
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  RowFile results_, pareto_;
  nlohmann::ordered_json run_;
};

int predict_sweep(const PredictRequest& request) {
  const std::optional<double> budget_ms = request.sweep.ttl_budget_ms;
  PlannedSweep sweep(request.sweep);
  PlanSummary summary(budget_ms, request.top);
  std::size_t fitting = 0, skipped = 0;
  sweep.walk([&](const SweepPoint& point, const SystemSpec& system, const Prediction* prediction,
                 std::size_t ordinal) {
    if (!point.skip_reason.empty()) {
      ++skipped;
      return;
    }
    ++fitting;
    summary.add(ordinal, point, system.name, *prediction);
  });
  summary.close();
  if (fitting + skipped == 0) {
    throw UsageError(
        "no configuration: the lists admit none with ranks = pp x dp x kvp x tpa and dp x kvp x tpa = tpf x "
        "ep");
  }

  std::optional<PlanDirectory> directory;
  if (!request.sweep.out.empty()) directory.emplace(request, sweep.systems());
  const std::vector<std::size_t> answers = summary.budget_answers();
  const bool print_all = fitting + skipped <= most_printed_rows && !budget_ms;
  std::vector<ResultRow> printed;
  sweep.walk([&](const SweepPoint& point, const SystemSpec& system, const Prediction* prediction,
                 std::size_t ordinal) {
    const bool fits = point.skip_reason.empty();
    if (fits ? !summary.is_kept(ordinal) : request.top.has_value()) return;
    ResultRow row = sweep.row(point, system, prediction);
    row.pareto = fits && summary.on_frontier(ordinal);
    if (directory) directory->append(row);
    const bool answer = fits && std::ranges::find(answers, ordinal) != answers.end();
    if (print_all || (budget_ms ? answer : row.pareto)) printed.push_back(std::move(row));
  });
  if (directory) directory->finish(fitting + skipped, summary.crossover_csv());

  const bool table = request.sweep.output == OutputFormat::table;
  if (table && request.sweep.quiet) return 0;
  fmt::print("{}", format_rows(printed, request.sweep.output));
  if (!table) return 0;
  if (budget_ms && !printed.empty()) {
    fmt::print("\nMost tokens/s/GPU of each strategy within {:g} ms a token.\n", *budget_ms);
  } else if (budget_ms && fitting > 0) {
    fmt::print("\nNone is within {:g} ms a token; the fastest takes {:.4g} ms.\n", *budget_ms,
               summary.fastest_ttl_us() / 1e3);
  }
  fmt::print("\n{} configurations on {}, {} of them on the frontier; {} skipped{}\n", fitting,
             names(sweep.systems()), summary.frontier_size(), skipped,
             directory ? " (see results.csv)" : "; --out DIR writes every row");
  if (!directory) return 0;
  for (const char* file : {"results.csv", "pareto.csv", "crossover.csv", "run.json"}) {
    fmt::print("{}\n", (directory->path() / file).string());
  }
  return 0;
}

}  // namespace

int run_predict(const PredictRequest& request) {
  if (launched_rank() != 0) return 0;
  if (!request.validate.empty()) return run_validate(request);
  if (request.bench) return run_predict_rate(request);
  return predict_sweep(request);
}

}  // namespace helix
