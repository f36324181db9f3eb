#include "sweeps/predict/predict_run.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "roofline/base/error.hpp"
#include "sweeps/common/text_table.hpp"
#include "sweeps/launch/mpi_session.hpp"
#include "sweeps/output/table.hpp"
#include "sweeps/predict/gpu_plan.hpp"
#include "sweeps/predict/plan_directory.hpp"
#include "sweeps/predict/plan_summary.hpp"
#include "sweeps/predict/planned_sweep.hpp"
#include "sweeps/predict/predict_rate.hpp"
#include "sweeps/predict/validate_run.hpp"

namespace helix {
namespace {

constexpr std::size_t most_printed_rows = 60;

/// One line on what the request leaves out, so that nobody takes it for the best there is.
std::string not_tried(const SweepRequest& request) {
  std::vector<std::string> missing;
  const auto note = [&](const std::string& what) {
    if (std::ranges::find(missing, what) == missing.end()) missing.push_back(what);
  };
  for (const SweepSpace& requested : request.blocks) {
    const SweepSpace space = resolved(requested, predict_defaults());
    std::string left_out;
    for (const StrategyTraits& row : strategies()) {
      if (std::ranges::find(space.strategies, row.strategy) != space.strategies.end()) continue;
      left_out += fmt::format("{}{}", left_out.empty() ? "" : ", ", row.name);
    }
    if (!left_out.empty()) note(left_out + " (--strategy all)");
    for (const auto& [width, choice] :
         {std::pair{"kvp", &space.kvp}, std::pair{"tpa", &space.tpa}, std::pair{"tpf", &space.tpf},
          std::pair{"ep", &space.ep}, std::pair{"pp", &space.pp}, std::pair{"dp", &space.dp}}) {
      if (choice->kind != Choice::Kind::every) note(fmt::format("other --{}", width));
    }
    if (space.hop_b == std::vector<std::int64_t>{1}) note("HOP-B (--hop-b off,on)");
    if (space.batches.kind != Choice::Kind::most)
      note("other batches (--batch max; --gpus N solves for them)");
    if (!space.ranks.listed()) note(fmt::format("more than {} GPUs", predict_defaults().max_ranks));
  }
  std::string text = "Not tried: ";
  for (const std::string& what : missing) text += (&what == &missing.front() ? "" : "; ") + what;
  return missing.empty() ? "Everything legal was tried." : text + ".";
}

int predict_sweep(const PredictRequest& request) {
  const std::optional<double> budget_ms = request.sweep.ttl_budget_ms;
  PlannedSweep sweep(request.sweep);
  PlanSummary summary(budget_ms, request.top);
  std::size_t fitting = 0, skipped = 0;
  sweep.walk(
      [&](const SweepPoint& point, const SystemSpec& system, const Prediction* prediction,
          std::size_t ordinal) {
        if (!prediction || !prediction->fits()) {
          ++skipped;
          return;
        }
        ++fitting;
        summary.add(ordinal, point, system.name, *prediction);
      },
      request.top ? [](std::size_t) { return true; } : std::function<bool(std::size_t)>{});
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
  sweep.walk(
      [&](const SweepPoint& point, const SystemSpec& system, const Prediction* prediction,
          std::size_t ordinal) {
        const bool fits = prediction && prediction->fits();
        if (fits ? !summary.is_kept(ordinal) : request.top.has_value()) return;
        ResultRow row = sweep.row(point, system, prediction);
        row.pareto = fits && summary.on_frontier(ordinal);
        if (directory) directory->append(row);
        const bool answer = fits && std::ranges::find(answers, ordinal) != answers.end();
        if (print_all || (budget_ms ? answer : row.pareto)) printed.push_back(std::move(row));
      },
      request.top ? [&](std::size_t ordinal) { return summary.is_kept(ordinal); }
                  : std::function<bool(std::size_t)>{});
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
  fmt::print("\n{}\n", wrapped(not_tried(request.sweep), terminal_width()));
  fmt::print("{}", left_out_text(sweep.models()));
  const std::string counts =
      fmt::format("{} configurations on {}, {} of them on the frontier; {} skipped{}", fitting,
                  system_names(sweep.systems()), summary.frontier_size(), skipped,
                  directory ? " (see results.csv)" : "; --out DIR writes every row");
  fmt::print("{}\n", wrapped(counts, terminal_width()));
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
  if (request.gpus) return run_gpu_plan(request);
  return predict_sweep(request);
}

}  // namespace helix
