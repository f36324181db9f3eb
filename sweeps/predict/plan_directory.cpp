#include "sweeps/predict/plan_directory.hpp"

#include <fmt/format.h>

#include "roofline/base/csv.hpp"
#include "sweeps/output/provenance.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/run_directory.hpp"

namespace helix {

RowFile::RowFile(const std::filesystem::path& path) : file_(path), pending_(csv_line(result_header())) {}

void RowFile::append(const ResultRow& row) {
  pending_ += csv_line(to_record(row));
  constexpr std::size_t piece = std::size_t{1} << 20;
  if (pending_.size() >= piece) write_pending();
}

void RowFile::commit() {
  write_pending();
  file_.commit();
}

void RowFile::write_pending() {
  file_.append(pending_);
  pending_.clear();
}

PlanDirectory::PlanDirectory(const PredictRequest& request, const std::vector<SystemSpec>& systems)
    : path_(new_run_directory(request.sweep.out)),
      results_(path_ / "results.csv"),
      pareto_(path_ / "pareto.csv"),
      run_(run_provenance(request.sweep, {.backend = "model",
                                          .kernel = {},
                                          .device = systems.size() == 1 ? systems.front().device : "",
                                          .world_ranks = 0,
                                          .threads_per_rank = 1,
                                          .placement = {},
                                          .system = system_names(systems),
                                          .calibration_yaml = {}})) {}

void PlanDirectory::append(const ResultRow& row) {
  results_.append(row);
  if (row.pareto) pareto_.append(row);
}

void PlanDirectory::finish(std::size_t configurations, const std::string& crossover_csv) {
  results_.commit();
  pareto_.commit();
  if (!crossover_csv.empty()) write_atomically(path_ / "crossover.csv", crossover_csv);
  run_["configurations"] = configurations;
  run_["end_time"] = utc_now();
  run_["complete"] = true;
  write_atomically(path_ / "run.json", run_.dump(2) + "\n");
}

std::string system_names(const std::vector<SystemSpec>& systems) {
  std::string text;
  for (const SystemSpec& system : systems) {
    if (!text.empty()) text += ", ";
    text += system.name;
  }
  return text;
}

}  // namespace helix
