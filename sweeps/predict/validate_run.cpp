#include "sweeps/predict/validate_run.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include <nlohmann/json.hpp>

#include "roofline/base/csv.hpp"
#include "roofline/base/error.hpp"
#include "roofline/system/system_spec.hpp"
#include "roofline/validate/validate.hpp"
#include "sweeps/common/files.hpp"

namespace helix {

namespace {

/// DIR/residuals.csv: what a fit minimises (roofline/fit).
void write_residuals(const std::filesystem::path& directory, const Validation& validation) {
  std::string text = "family,line,measured_us,model_us\n";
  for (const Residual& r : validation.residuals) {
    text += fmt::format("{},{},{},{}\n", csv_field(r.family), r.line, r.measured_us, r.model_us);
  }
  std::filesystem::create_directories(directory);
  write_atomically(directory / "residuals.csv", text);
}

/// The one that stands for every row's device, if the user gave one.
std::optional<SystemSpec> given_system(const SweepRequest& request) {
  if (request.systems.empty()) return std::nullopt;
  if (request.systems.size() > 1 || request.systems.front() == "auto") {
    throw UsageError("--validate: --system is one system, which stands for every row's device");
  }
  return load_system(request.systems.front());
}

}  // namespace

int run_validate(const PredictRequest& request) {
  const std::optional<SystemSpec> system = given_system(request.sweep);
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
    case OutputFormat::json_lines:
      for (const FamilyError& f : result.families) {
        const nlohmann::ordered_json line = {
            {"family", f.family}, {"rows", f.rows}, {"mdape", f.mdape}, {"mape", f.mape}, {"p90", f.p90}};
        fmt::print("{}\n", line.dump());
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

}  // namespace helix
