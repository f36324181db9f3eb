#include "fuzz/readers.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/checkpoint/safetensors_header.hpp"
#include "roofline/base/csv.hpp"
#include "roofline/base/error.hpp"
#include "roofline/cost/predict.hpp"
#include "roofline/model/model_spec.hpp"
#include "roofline/system/system_spec.hpp"
#include "roofline/validate/validate.hpp"
#include "sweeps/common/list_syntax.hpp"
#include "sweeps/export/trtllm_config.hpp"
#include "sweeps/request/sweep_file.hpp"
#include "sweeps/results/frontier.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/run_directory.hpp"
#include "sweeps/results/run_json.hpp"
#include "sweeps/results/run_reader.hpp"
#include "sweeps/results/stored_run.hpp"

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
    if (!why_illegal(model, Strategy::tp, {}, shape)) predict({model, {}, shape}, system);
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

/// The rows of a results.csv, one by one: a damaged one does not hide the others from the fuzzer.
void read_results(std::string_view text) {
  std::istringstream file{std::string(text)};
  std::vector<ResultRow> rows;
  CsvReader reader(file, source, CsvReader::LastLine::is_torn);
  for (CsvRecord record; reader.next(record);) {
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

/// A whole run directory, its files one behind the other: read as report, compare and sweep --resume do. What
/// is mended by resuming must be sound then.
void read_run_directory(std::string_view text) {
  namespace fs = std::filesystem;
  static const fs::path scratch = fs::temp_directory_path() / fmt::format("helix-fuzz-{}", getpid());
  fs::remove_all(scratch);
  fs::create_directories(scratch);
  constexpr std::string_view separator = "%%\n";
  for (const char* name : {"run.json", "results.csv", "samples.csv"}) {
    const std::size_t end = text.find(separator);
    std::ofstream(scratch / name, std::ios::binary) << text.substr(0, end);
    text = end == std::string_view::npos ? "" : text.substr(end + separator.size());
  }
  const auto accepted = [](const auto& read) {
    try {
      read();
      return true;
    } catch (const UsageError&) {
      return false;
    }
  };
  accepted([&] { read_run(scratch); });
  accepted([&] { read_stored_run(scratch); });
  const bool resumed = accepted([&] { const RunDirectory run(scratch, true); });
  if (resumed && !accepted([&] {
        const RunDirectory run(scratch, true);
        if (!run.mended().empty()) throw std::logic_error("mended twice: " + run.mended().front());
      })) {
    throw std::logic_error("resumed once, but not twice");
  }
  fs::remove_all(scratch);
}

void read_measured_kernels(std::string_view text) {
  std::istringstream file{std::string(text)};
  validate(file, source);
}

void read_safetensors(std::string_view file) {
  for (const StoredTensor& tensor : parse_safetensors_header(file, file.size(), source)) {
    if (tensor.offset + tensor.bytes > file.size()) throw std::logic_error("a tensor behind the file's end");
  }
}

constexpr auto all = std::to_array<Reader>({{"model", read_model},
                                            {"system", read_system},
                                            {"sweep", read_sweep},
                                            {"trtllm", read_trtllm},
                                            {"list", read_list},
                                            {"results", read_results},
                                            {"run_json", read_run_json},
                                            {"run", read_run_directory},
                                            {"validate", read_measured_kernels},
                                            {"safetensors", read_safetensors}});

}  // namespace

std::span<const Reader> readers() {
  return all;
}

}  // namespace helix
