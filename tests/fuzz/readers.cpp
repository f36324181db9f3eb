#include "fuzz/readers.hpp"

#include <algorithm>
#include <array>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "roofline/error.hpp"
#include "roofline/model_spec.hpp"
#include "roofline/predict.hpp"
#include "roofline/system_spec.hpp"
#include "roofline/validate.hpp"
#include "sweeps/csv.hpp"
#include "sweeps/list_syntax.hpp"
#include "sweeps/result_columns.hpp"
#include "sweeps/results.hpp"
#include "sweeps/sweep_file.hpp"
#include "sweeps/trtllm_config.hpp"

namespace helix {
namespace {

const std::string source = "input";

void read_model(std::string_view text) {
  const ModelSpec model = parse_model(text, source);
  static const SystemSpec system = load_system("h100");
  // What is accepted must also be counted without overflow, up to the largest legal request.
  for (const std::int64_t largest : {std::int64_t{1}, context_tokens.largest}) {
    DecodeShape shape;
    shape.context = largest;
    shape.batch = std::min(largest, std::int64_t{1} << 22);
    if (!why_illegal(model, Strategy::tp, {}, shape)) predict(model, Strategy::tp, {}, shape, system);
  }
}

void read_system(std::string_view text) {
  const std::string written = to_yaml(parse_system(text, source));
  if (to_yaml(parse_system(written, source)) != written) throw std::logic_error("no round trip:\n" + written);
}

void read_sweep(std::string_view text) {
  SweepRequest request;
  parse_sweep(text, source, request);
}

void read_trtllm(std::string_view text) {
  SweepSpace space;
  parse_trtllm_config(text, source, space);
}

void read_list(std::string_view text) {
  const auto each = [&](const auto& settings, auto destination) {
    for (const auto& setting : settings) {
      try {
        setting.apply(destination, text, source);
      } catch (const UsageError&) {
      }
    }
  };
  each(space_settings(), SweepSpace{});
  each(run_settings(), SweepRequest{});
}

/// results.csv; samples.csv has the same syntax and no more to understand.
void read_results(std::string_view text) {
  std::istringstream file{std::string(text)};
  std::vector<ResultRow> rows;
  for (const CsvRecord& record : read_csv(file)) {
    try {
      rows.push_back(from_record(record));
    } catch (const UsageError&) {  // the header is no row, either
      continue;
    }
    if (rows.back().id != from_record(to_record(rows.back())).id) throw std::logic_error("another id");
  }
  mark_pareto(rows);
}

void read_run_json(std::string_view text) {
  parse_run_json(std::string(text), source);
}

void read_measured_kernels(std::string_view text) {
  std::istringstream file{std::string(text)};
  validate(file, source);
}

constexpr auto all = std::to_array<Reader>({{"model", read_model},
                                            {"system", read_system},
                                            {"sweep", read_sweep},
                                            {"trtllm", read_trtllm},
                                            {"list", read_list},
                                            {"results", read_results},
                                            {"run_json", read_run_json},
                                            {"validate", read_measured_kernels}});

}  // namespace

std::span<const Reader> readers() {
  return all;
}

}  // namespace helix
