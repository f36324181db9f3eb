#include "sweeps/results/run_directory.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <system_error>
#include <utility>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/text_file.hpp"
#include "sweeps/results/frontier.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/run_json.hpp"
#include "sweeps/results/run_reader.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

const CsvRecord samples_header{"id", "sample", "ttl_us"};

std::string table_text(const CsvRecord& header, const std::vector<CsvRecord>& records) {
  std::string text = csv_line(header);
  for (const CsvRecord& record : records) text += csv_line(record);
  return text;
}

}  // namespace

RunDirectory::RunDirectory(const fs::path& requested, bool resume)
    : path_(requested.empty() ? new_default_directory() : requested) {
  const bool holds_something = create_or_enter(path_, resume);
  lock_.emplace(path_);
  remove_partial_files(path_);
  try {
    if (holds_something && holds_run(path_)) {
      read_back();
    } else {
      // results.csv last: with it the directory holds a run.
      write_atomically(path_ / "samples.csv", table_text(samples_header, {}));
      write_atomically(path_ / "results.csv", table_text(result_header(), {}));
    }
    identity_ = identity_of(path_);
    results_.emplace(path_ / "results.csv");
    samples_.emplace(path_ / "samples.csv");
    if (requested.empty()) point_latest_at(path_);
  } catch (const std::system_error& error) {
    throw UsageError(fmt::format("--out '{}': {}", path_.string(), error.what()));
  }
}

void RunDirectory::read_back() {
  const fs::path results_path = path_ / "results.csv", samples_path = path_ / "samples.csv";
  const auto require_columns = [](const CsvTable& table, const CsvRecord& header, const fs::path& path) {
    if (table.header() == header) return;
    throw UsageError(fmt::format("--resume: '{}' has not the columns of this version", path.string()));
  };
  CsvTable results(results_path);
  require_columns(results, result_header(), results_path);
  CsvTable samples(samples_path);
  require_columns(samples, samples_header, samples_path);
  for_each_row(results, [&](ResultRow&& row) {
    ids_.insert(row.id);
    records_.push_back(results.row());
    rows_.push_back(std::move(row));
  });
  if (results.torn()) {
    mended_.push_back(fmt::format("'{}', line {}: the row in flight when the run was killed is dropped",
                                  results_path.string(), results.line()));
  }
  const std::string kept_samples = whole_rows(samples);

  // A run that ended before it began (calibration failed, or was killed) has no run.json.
  if (fs::exists(path_ / "run.json") || !rows_.empty()) {
    require_readable(path_ / "run.json");
    run_ = parse_run_json(read_text_file((path_ / "run.json").string(), "run.json"),
                          (path_ / "run.json").string());
  }
  write_atomically(results_path, table_text(result_header(), records_));
  write_atomically(samples_path, kept_samples);
}

std::string RunDirectory::whole_rows(CsvTable& samples) {
  std::map<std::string, std::size_t> expected, found;
  for (const ResultRow& row : rows_) {
    const Measurement* sampled = row.sampled();
    expected[row.id] = sampled ? sampled->samples : 0;
  }
  std::string text = csv_line(samples_header);
  std::size_t first_dropped = 0, dropped = 0;
  while (samples.next()) {
    const std::string& id = samples.text("id");
    samples.positive("ttl_us");
    if (!ids_.contains(id)) {
      // A row is written after its samples, so samples without a row belong to the one that was lost.
      if (dropped++ == 0) first_dropped = samples.line();
      continue;
    }
    if (dropped > 0) samples.fail("a sample of a finished row behind samples of an unfinished one");
    if (samples.text("sample") != std::to_string(found[id]++)) {
      samples.fail(fmt::format("sample '{}' of the row '{}' is not its {}th", excerpt(samples.text("sample")),
                               excerpt(id), found[id] - 1));
    }
    text += csv_line(samples.row());
  }
  for (const auto& [id, count] : expected) {
    if (found[id] == count) continue;
    throw UsageError(fmt::format("--resume: '{}' has {} samples of the row '{}', results.csv says {}",
                                 (path_ / "samples.csv").string(), found[id], excerpt(id), count));
  }
  if (samples.torn()) {
    if (dropped++ == 0) first_dropped = samples.line();
  }
  if (dropped > 0) {
    mended_.push_back(fmt::format("'{}', line {}: {} samples of the row in flight are dropped",
                                  (path_ / "samples.csv").string(), first_dropped, dropped));
  }
  return text;
}

void RunDirectory::append(const ResultRow& row) {
  std::string samples;
  if (const Measurement* sampled = row.sampled()) {
    for (std::size_t i = 0; i < sampled->samples_us.size(); ++i)
      samples += fmt::format("{},{},{:.7g}\n", csv_field(row.id), i, sampled->samples_us[i]);
  }
  const CsvRecord record = to_record(row);
  const std::uint64_t samples_before = samples_->bytes();
  samples_->append(samples);
  try {
    results_->append(csv_line(record));
  } catch (...) {
    samples_->cut_to(samples_before);
    throw;
  }
  records_.push_back(record);
  rows_.push_back(row);
  ids_.insert(row.id);
  require_in_place();
}

const ResultRow& RunDirectory::row(const std::string& id) const {
  return *std::ranges::find(rows_, id, &ResultRow::id);
}

void RunDirectory::require_in_place() const {
  const auto refuse = [&](const fs::path& path, std::string_view what) {
    throw LostRun(
        fmt::format("'{}' {}; its {} rows stand on standard output", path.string(), what, rows_.size()),
        table_text(result_header(), records_));
  };
  if (identity_of(path_) != identity_) refuse(path_, "was removed or replaced while the sweep ran");
  for (const auto& [file, name] :
       {std::pair(&results_, "results.csv"), std::pair(&samples_, "samples.csv")}) {
    if (!(*file)->in_place()) refuse(path_ / name, "was removed, replaced or changed while the sweep ran");
  }
}

void RunDirectory::begin(const nlohmann::ordered_json& run) {
  const nlohmann::ordered_json earlier = std::exchange(run_, run);
  run_["resumed"] = 0;
  if (earlier.is_object()) {
    run_["resumed"] = earlier["resumed"].get<int>() + 1;
    run_["parts"] = parts_of(earlier, rows_.size());
    run_["parts"].push_back(part_of(run, rows_.size()));
    for (const char* of_first_run : {"command_line", "start_time"}) {
      if (earlier.contains(of_first_run)) run_[of_first_run] = earlier[of_first_run];
    }
  }
  run_["complete"] = false;
  save_run();
}

void RunDirectory::break_off(const nlohmann::ordered_json& end) {
  run_.update(end);
  end_part(end);
  save_run();
}

void RunDirectory::end_part(const nlohmann::ordered_json& end) {
  if (!run_.contains("parts")) return;
  nlohmann::ordered_json& part = run_["parts"].back();
  part.update(end);
  part["rows"] = rows_.size() - part["first_row"].get<std::size_t>();
}

void RunDirectory::finish(const nlohmann::ordered_json& end) {
  mark_pareto(rows_);
  const CsvRecord header = result_header();
  const auto pareto_column = static_cast<std::size_t>(std::ranges::find(header, "pareto") - header.begin());
  std::vector<CsvRecord> frontier;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i].status == Status::ok) records_[i][pareto_column] = rows_[i].pareto ? '1' : '0';
    if (rows_[i].pareto) frontier.push_back(records_[i]);
  }
  results_.reset();
  write_atomically(path_ / "results.csv", table_text(header, records_));
  write_atomically(path_ / "pareto.csv", table_text(header, frontier));
  run_.update(end);
  end_part(end);
  run_["complete"] = true;
  save_run();
}

void RunDirectory::save_run() const {
  write_atomically(path_ / "run.json", run_.dump(2) + "\n");
}

}  // namespace helix
