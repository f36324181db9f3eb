#include "sweeps/results/results.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <system_error>
#include <tuple>
#include <utility>

#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/json_fields.hpp"
#include "roofline/base/text_file.hpp"
#include "roofline/cost/pareto.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/run_reader.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

const CsvRecord samples_header{"id", "sample", "ttl_us"};

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "host";
}

fs::path new_default_directory() {
  return fs::path("results") /
         fmt::format("{:%Y%m%dT%H%M%SZ}-{}-{}", fmt::gmtime(std::time(nullptr)), host_name(), getpid());
}

/// True if the directory already held something.
bool create_or_enter(const fs::path& path, bool may_hold_run) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error)
    throw UsageError(
        fmt::format("--out '{}': cannot create the directory: {}", path.string(), error.message()));
  if (access(path.c_str(), W_OK | X_OK) != 0)
    throw UsageError(fmt::format("--out '{}': not writable", path.string()));
  const bool empty = fs::is_empty(path, error);
  if (error) throw UsageError(fmt::format("--out '{}': cannot be read: {}", path.string(), error.message()));
  if (!empty && !may_hold_run) {
    throw UsageError(
        fmt::format("--out '{}': not empty; valid: a new directory, or --resume to continue the run in it",
                    path.string()));
  }
  return !empty;
}

/// A run that was killed before its first file stood leaves nothing but pieces of it.
bool holds_run(const fs::path& path) {
  if (fs::exists(path / "results.csv")) return true;
  return !std::ranges::all_of(fs::directory_iterator(path), [](const fs::directory_entry& entry) {
    return entry.path().filename() == "samples.csv" || entry.path().extension() == ".partial";
  });
}

/// What a run left that was killed while it wrote a whole file.
void remove_partial_files(const fs::path& directory) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".partial") fs::remove(entry.path(), error);
  }
}

std::string table_text(const CsvRecord& header, const std::vector<CsvRecord>& records) {
  std::string text = csv_line(header);
  for (const CsvRecord& record : records) text += csv_line(record);
  return text;
}

/// What run.json keeps of one part of a resumed run.
nlohmann::ordered_json part_of(const nlohmann::ordered_json& run, std::size_t first_row) {
  nlohmann::ordered_json part = {{"first_row", first_row}, {"rows", 0}};
  for (const auto& [key, value] : run.items()) {
    const bool of_whole_run = key == "schema_version" || key == "program" || key == "request" ||
                              key == "parts" || key == "resumed" || key == "complete";
    if (!of_whole_run) part[key] = value;
  }
  return part;
}

/// The parts of a run that has written so many rows; it may have been killed, and its last part not ended.
nlohmann::ordered_json parts_of(const nlohmann::ordered_json& run, std::size_t rows) {
  nlohmann::ordered_json parts = run.value("parts", nlohmann::ordered_json::array());
  if (!parts.is_array() || parts.empty()) parts = nlohmann::ordered_json::array({part_of(run, 0)});
  nlohmann::ordered_json& last = parts.back();
  const bool known = last.is_object() && last.contains("first_row") && last["first_row"].is_number_unsigned();
  if (known) last["rows"] = rows - std::min(rows, last["first_row"].get<std::size_t>());
  return parts;
}

}  // namespace

namespace {

/// results/latest is the newest run that was not told where to go; where links are not possible
/// there is none.
void point_latest_at(const fs::path& run) {
  const fs::path latest = run.parent_path() / "latest";
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(latest, ignored)) && !fs::is_symlink(latest, ignored))
    return;  // somebody's own
  const fs::path fresh = run.parent_path() / fmt::format(".latest-{}", getpid());
  fs::create_directory_symlink(run.filename(), fresh, ignored);
  fs::rename(fresh, latest, ignored);
}

}  // namespace

fs::path new_run_directory(const fs::path& requested) {
  const fs::path path = requested.empty() ? new_default_directory() : requested;
  create_or_enter(path, false);
  return path;
}

DirectoryLock::DirectoryLock(const fs::path& directory)
    : descriptor_(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  // File systems without locks are no reason not to run.
  if (descriptor_ >= 0 && flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    close(descriptor_);
    throw UsageError(fmt::format("--out '{}': another run is writing to it", directory.string()));
  }
}

DirectoryLock::~DirectoryLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

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
  for (const ResultRow& row : rows_) expected[row.id] = row.measurement ? row.measurement->samples : 0;
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
  if (row.measurement) {
    for (std::size_t i = 0; i < row.measurement->samples_us.size(); ++i) {
      samples += fmt::format("{},{},{:.7g}\n", csv_field(row.id), i, row.measurement->samples_us[i]);
    }
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

nlohmann::ordered_json parse_run_json(const std::string& text, const std::string& source) {
  nlohmann::ordered_json run = parse_ordered_json(text, source);
  constexpr int most_resumes = 1'000'000;
  if (run.is_object() && run.contains("resumed") && run["resumed"].is_number_integer() &&
      run["resumed"] >= 0 && run["resumed"] <= most_resumes) {
    return run;
  }
  throw UsageError(fmt::format("--resume: '{}' is not the run.json of a run", source));
}

void mark_pareto(std::vector<ResultRow>& rows) {
  using Group = std::tuple<std::string, std::string, std::int64_t, DType, DType>;
  std::map<Group, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].pareto = false;
    const DecodeShape& shape = rows[i].config.shape;
    if (rows[i].status != Status::ok || !rows[i].within_budget() || tokens_per_s_user(rows[i]) <= 0) continue;
    // A measured run has one system, whose name depends on the number of ranks that were calibrated.
    const std::string system = rows[i].measurement ? "" : rows[i].system;
    groups[{rows[i].config.model, system, shape.context, shape.weight_dtype, shape.kv_dtype}].push_back(i);
  }
  for (const auto& [group, members] : groups) {
    std::vector<ParetoPoint> points;
    for (const std::size_t i : members)
      points.push_back({tokens_per_s_user(rows[i]), tokens_per_s_gpu(rows[i])});
    for (const std::size_t on_front : pareto_front(points)) rows[members[on_front]].pareto = true;
  }
}

}  // namespace helix
