// The run directory of a prediction.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "roofline/system_spec.hpp"
#include "sweeps/result_row.hpp"
#include "sweeps/sweep_request.hpp"

namespace helix {

/// A results.csv that grows row by row; errors are std::runtime_error naming the file.
class RowFile {
 public:
  explicit RowFile(const std::filesystem::path& path);
  void append(const ResultRow& row);
  /// Everything has been written, or it throws.
  void close();

 private:
  [[noreturn]] void fail() const;

  std::filesystem::path path_;
  std::ofstream out_;
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
