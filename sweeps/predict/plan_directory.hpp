// The run directory of a prediction.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "roofline/system/system_spec.hpp"
#include "sweeps/common/files.hpp"
#include "sweeps/request/sweep_request.hpp"
#include "sweeps/results/result_row.hpp"

namespace helix {

/// A results.csv that grows row by row, and stands when it is complete.
class RowFile {
 public:
  explicit RowFile(const std::filesystem::path& path);
  void append(const ResultRow& row);
  void commit();

 private:
  void write_pending();

  ReplacedFile file_;
  std::string pending_;
};

/// results.csv and its companions in the request's --out.
class PlanDirectory {
 public:
  PlanDirectory(const PredictRequest& request, const std::vector<SystemSpec>& systems);

  /// Rows on the frontier go to pareto.csv as well.
  void append(const ResultRow& row);
  /// An empty crossover map is left out.
  void finish(std::size_t configurations, const std::string& crossover_csv);
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  RowFile results_, pareto_;
  nlohmann::ordered_json run_;
};

/// "h200, b200"
std::string system_names(const std::vector<SystemSpec>& systems);

}  // namespace helix
