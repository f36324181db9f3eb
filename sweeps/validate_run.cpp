#include "sweeps/validate_run.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "roofline/validate.hpp"
#include "sweeps/csv.hpp"

namespace helix {

int run_validate(const PredictRequest& request) {
  const Validation result = validate(request.validate.string());
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

}  // namespace helix
