#include "roofline/validate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <sstream>
#include <string_view>
#include <utility>
#include <variant>

#include "roofline/error.hpp"
#include "roofline/measured_rows.hpp"
#include "roofline/system_spec.hpp"
#include "roofline/text_file.hpp"
#include "roofline/verdict.hpp"

namespace helix {
namespace {

/// The built-in GPU whose name the device starts with, letters and digits only: GB200_NVL72 is a gb200.
SystemSpec system_of_device(const std::string& device, const std::string& where) {
  const auto plain = [](std::string_view text) {
    std::string out;
    for (const unsigned char c : text) {
      if (std::isalnum(c)) out += static_cast<char>(std::tolower(c));
    }
    return out;
  };
  const std::string wanted = plain(device);
  std::string best, known;
  for (const std::string& name : built_in_systems()) {
    known += (known.empty() ? "" : ", ") + name;
    const std::size_t at = wanted.find(plain(name));
    // "nvidia_b200" and "b200_sxm", but "gb200" is not a b200.
    if (at == std::string::npos || (at > 0 && wanted.substr(0, at) != "nvidia")) continue;
    if (name.size() > best.size()) best = name;
  }
  if (best.empty()) throw UsageError(fmt::format("{}: unknown device '{}'; valid: {}", where, device, known));
  return load_system(best);
}

FamilyError summary(const std::string& family, std::vector<double> errors) {
  std::sort(errors.begin(), errors.end());
  double sum = 0;
  for (const double e : errors) sum += e;
  const auto percentile = [&](double share) {  // linear between ranks
    const double at = share * static_cast<double>(errors.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(low + 1, errors.size() - 1);
    return errors[low] + (at - static_cast<double>(low)) * (errors[high] - errors[low]);
  };
  return {.family = family,
          .rows = errors.size(),
          .mdape = percentile(0.5),
          .mape = sum / static_cast<double>(errors.size()),
          .p90 = percentile(0.9)};
}

}  // namespace

Validation validate(std::istream& csv, const std::string& source, const SystemSpec* every_device) {
  std::string line;
  if (!std::getline(csv, line)) throw UsageError(source + ": an empty file");
  ColumnIndex columns;
  for (const std::string& column : split_cells(line)) columns.emplace(column, columns.size());
  const bool steps = columns.contains("step_ms") || columns.contains("tpot_ms");

  Validation result;
  std::map<std::string, SystemSpec> systems;
  std::map<std::string, std::vector<double>> errors;
  for (std::size_t number = 2; std::getline(csv, line); ++number) {
    if (line.empty()) continue;
    const std::vector<std::string> cells = split_cells(line);
    const MeasuredRow row(columns, cells, fmt::format("{}:{}", source, number));
    const std::string& device = row.text("device");
    auto system = systems.find(device);
    if (system == systems.end()) {
      system =
          systems.emplace(device, every_device ? *every_device : system_of_device(device, row.where())).first;
      if (!system->second.gpu) {
        throw UsageError(
            fmt::format("system {} has no GPU kernels to hold against {}", system->second.name, source));
      }
    }
    const Verdict verdict = steps ? judge_step(row, system->second) : judge_kernel(row, system->second);
    if (const auto* judged = std::get_if<Judged>(&verdict)) {
      const double error = std::abs(judged->model_us / judged->measured_us - 1) * 100;
      if (!std::isfinite(error))
        throw UsageError(fmt::format("{}: no kernel has these figures", row.where()));
      errors[judged->family].push_back(error);
      result.residuals.push_back({judged->family, number, judged->measured_us, judged->model_us});
    } else {
      ++result.left_out[std::get<LeftOut>(verdict).reason];
    }
  }
  for (auto& [family, list] : errors) result.families.push_back(summary(family, std::move(list)));
  return result;
}

Validation validate(const std::string& path, const SystemSpec* every_device) {
  std::istringstream in(read_text_file(path, "CSV file of measurements", std::size_t{256} << 20));
  return validate(in, path, every_device);
}

}  // namespace helix
