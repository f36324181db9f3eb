#include "roofline/validate/validate.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string_view>
#include <utility>
#include <variant>

#include "roofline/base/csv.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/statistics.hpp"
#include "roofline/system/system_spec.hpp"
#include "roofline/validate/measured_rows.hpp"
#include "roofline/validate/verdict.hpp"

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
  if (best.empty())
    throw UsageError(fmt::format("{}: unknown device '{}'; valid: {}", where, excerpt(device), known));
  return load_system(best);
}

FamilyError summary(const std::string& family, const std::vector<double>& errors) {
  const std::vector<double> ordered = sorted(errors);
  double sum = 0;
  for (const double e : ordered) sum += e;
  return {.family = family,
          .rows = ordered.size(),
          .mdape = median_of_sorted(ordered),
          .mape = sum / static_cast<double>(ordered.size()),
          .p90 = quantile(ordered, 0.9)};
}

/// A form of files, known by a column that only it has; the last one where none is there.
struct Form {
  const char *mark, *value, *device;
  Verdict (*judge)(const MeasuredRow&, const SystemSpec&);
};
constexpr std::array forms{
    Form{"step_ms", "step_ms", "device", judge_step}, Form{"tpot_ms", "tpot_ms", "device", judge_step},
    Form{"op_name", "latency_us", "device", judge_sparse}, Form{"metric", "value", "system", judge_line},
    Form{"op", "latency_us", "device", judge_kernel}};

}  // namespace

Validation validate(std::istream& csv, const std::string& source, const SystemSpec* every_device) {
  CsvReader reader(csv, source, CsvReader::LastLine::may_lack_end);
  CsvRecord cells;
  if (!reader.next(cells)) throw UsageError(fmt::format("'{}' is empty", source));
  ColumnIndex columns;
  for (const std::string& column : cells) columns.emplace(column, columns.size());
  const auto* form = std::ranges::find_if(forms, [&](const Form& f) { return columns.contains(f.mark); });
  if (form == forms.end()) --form;
  const auto require = [&](const char* column) {
    if (columns.contains(column)) return;
    throw UsageError(fmt::format("'{}' has no column '{}': it is no CSV of measurements", source, column));
  };
  require(form->mark);
  require(form->value);
  require(form->device);

  Validation result;
  std::map<std::string, SystemSpec> systems;
  std::map<std::string, std::vector<double>> errors;
  while (reader.next(cells)) {
    if (cells.size() == 1 && cells.front().empty()) continue;  // an empty line
    const MeasuredRow row(columns, cells, fmt::format("{}:{}", source, reader.line()));
    const std::string& device = row.text(form->device);
    auto system = systems.find(device);
    if (system == systems.end()) {
      system =
          systems.emplace(device, every_device ? *every_device : system_of_device(device, row.where())).first;
      if (!system->second.gpu) {
        throw UsageError(
            fmt::format("system {} has no GPU kernels to hold against {}", system->second.name, source));
      }
    }
    const Verdict verdict = form->judge(row, system->second);
    if (const auto* judged = std::get_if<Judged>(&verdict)) {
      const double error = std::abs(judged->model_us / judged->measured_us - 1) * 100;
      if (!std::isfinite(error))
        throw UsageError(fmt::format("{}: no kernel has these figures", row.where()));
      errors[judged->family].push_back(error);
      result.residuals.push_back({judged->family, reader.line(), judged->measured_us, judged->model_us});
    } else {
      ++result.left_out[std::get<LeftOut>(verdict).reason];
    }
  }
  for (const auto& [family, list] : errors) result.families.push_back(summary(family, list));
  if (result.families.empty() && result.left_out.empty()) {
    throw UsageError(fmt::format("'{}' has columns, but no measured kernel", source));
  }
  return result;
}

Validation validate(const std::string& path, const SystemSpec* every_device) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open() || std::filesystem::is_directory(path, ignored)) {
    throw UsageError(fmt::format("cannot read the CSV file of measurements '{}'", path));
  }
  return validate(file, path, every_device);
}

}  // namespace helix
