// A run directory from its first row to its last, killed, damaged and continued in between.
#include <sys/resource.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <tuple>

#include "roofline/base/error.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/run_directory.hpp"
#include "sweeps/results/run_json.hpp"
#include "tests/sweeps/results/rows.hpp"
#include "tests/sweeps/results/scratch_directory.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
namespace fs = std::filesystem;

namespace {

/// No file of this process grows past `bytes`: a disk that is full, without one.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(std::uintmax_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit{bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  void (*handler_)(int);
  rlimit before_{};
};

}  // namespace

TEST_CASE("a killed run is continued: the torn row is dropped, finished rows stay, the end is the same") {
  ScratchDirectory scratch;
  {
    RunDirectory run(scratch.path, false);
    run.begin({{"start_time", "first"}, {"command_line", {"a"}}});
    run.append(measured_row(4, 1000));
  }
  {  // killed while writing the second row, after its samples
    std::ofstream(scratch.path / "samples.csv", std::ios::app) << measured_row(8, 1500).id << ",0,1500\n"
                                                               << measured_row(8, 1500).id << ",1,15";
    const std::string torn = csv_line(to_record(measured_row(8, 1500)));
    std::ofstream(scratch.path / "results.csv", std::ios::app) << torn.substr(0, torn.size() / 2);
  }
  CHECK_THROWS_AS(RunDirectory(scratch.path, false), UsageError);
  RunDirectory run(scratch.path, true);
  REQUIRE(run.mended().size() == 2);
  CHECK_THAT(run.mended()[0], Catch::Contains("results.csv', line 3"));
  CHECK_THAT(run.mended()[1], Catch::Contains("samples.csv', line ") && Catch::Contains("2 samples"));
  run.begin({{"start_time", "second"}, {"command_line", {"b"}}});
  CHECK(run.holds(measured_row(4, 1000).id));
  CHECK_FALSE(run.holds(measured_row(8, 1500).id));
  run.append(measured_row(8, 1500));
  run.finish(nlohmann::ordered_json::object());
  const std::string results = read(scratch.path / "results.csv");
  const std::string samples = read(scratch.path / "samples.csv");
  CHECK_THAT(read(scratch.path / "run.json"),
             Catch::Contains("\"first\"") && Catch::Contains("\"resumed\": 1"));

  fs::remove_all(scratch.path);
  RunDirectory whole(scratch.path, false);
  whole.begin({});
  whole.append(measured_row(4, 1000));
  whole.append(measured_row(8, 1500));
  whole.finish(nlohmann::ordered_json::object());
  CHECK(read(scratch.path / "results.csv") == results);
  CHECK(read(scratch.path / "samples.csv") == samples);
}

TEST_CASE("a run that is damaged beyond its row in flight is not continued") {
  ScratchDirectory scratch;
  {
    RunDirectory run(scratch.path, false);
    run.begin(nlohmann::ordered_json::object());
    run.append(measured_row(4, 1000));
    run.append(measured_row(8, 1500));
  }
  const auto refusal = [&] { return usage_error([&] { RunDirectory run(scratch.path, true); }); };
  REQUIRE(refusal().empty());
  const fs::path results = scratch.path / "results.csv", samples = scratch.path / "samples.csv";
  const std::string rows = read(results), steps = read(samples);
  const std::string last_row = rows.substr(rows.rfind('\n', rows.size() - 2) + 1);

  std::ofstream(results, std::ios::app) << last_row;
  CHECK_THAT(refusal(), Catch::Contains("line 4: a second row"));
  CHECK(read(results) == rows + last_row);
  // A row that is gone leaves samples in the middle only if it was not the last.
  const std::size_t first_row = rows.find('\n') + 1;
  std::ofstream(results) << rows.substr(0, first_row) << last_row;
  CHECK_THAT(refusal(), Catch::Contains("samples.csv', line ") && Catch::Contains("unfinished"));
  std::ofstream(results) << rows;
  std::ofstream(samples) << steps.substr(0, steps.rfind('\n', steps.size() - 2) + 1);
  CHECK_THAT(refusal(), Catch::Contains("samples of the row") && Catch::Contains("results.csv says"));
  std::ofstream(samples) << steps;
  fs::rename(scratch.path / "run.json", scratch.path / "elsewhere");
  CHECK_THAT(refusal(), Catch::Contains("run.json"));
  fs::rename(scratch.path / "elsewhere", scratch.path / "run.json");
  CHECK(refusal().empty());
}

TEST_CASE(
    "a run whose directory is removed, replaced or changed under it is lost, and its rows are at hand") {
  for (const char* what : {"removed", "replaced", "file removed", "file replaced"}) {
    CAPTURE(what);
    ScratchDirectory scratch;
    RunDirectory run(scratch.path, false);
    run.begin(nlohmann::ordered_json::object());
    run.append(measured_row(4, 1000));
    CHECK_NOTHROW(run.require_in_place());
    const std::string rows = read(scratch.path / "results.csv"), change = what;
    if (change == "removed") fs::remove_all(scratch.path);
    if (change == "replaced") {
      fs::rename(scratch.path, scratch.path.string() + ".old");
      fs::copy(scratch.path.string() + ".old", scratch.path);
      fs::remove_all(scratch.path.string() + ".old");
    }
    if (change.starts_with("file ")) fs::remove(scratch.path / "samples.csv");
    if (change == "file replaced") std::ofstream(scratch.path / "samples.csv") << "id,sample,ttl_us\n";
    CHECK_THROWS_AS(run.require_in_place(), LostRun);
    try {
      run.append(measured_row(8, 1500));
      FAIL("nobody noticed");
    } catch (const LostRun& lost) {
      CHECK(lost.results_csv == rows + csv_line(to_record(measured_row(8, 1500))));
    }
  }
  ScratchDirectory scratch;
  RunDirectory run(scratch.path, false);
  run.append(measured_row(4, 1000));
  std::ofstream(scratch.path / "results.csv", std::ios::app) << "mine\n";
  CHECK_THROWS_WITH(run.require_in_place(), Catch::Contains("results.csv") && Catch::Contains("changed"));
}

TEST_CASE("a row that does not fit the disk leaves the files as they were, and finds its place later") {
  ScratchDirectory scratch;
  RunDirectory run(scratch.path, false);
  run.begin(nlohmann::ordered_json::object());
  run.append(measured_row(4, 1000));
  const std::string results = read(scratch.path / "results.csv"),
                    samples = read(scratch.path / "samples.csv");
  const std::string run_json = read(scratch.path / "run.json");
  {
    const FileSizeLimit full(results.size() + 20);
    CHECK_THROWS_WITH(run.append(measured_row(8, 1500)), Catch::Contains("results.csv"));
  }
  {
    const FileSizeLimit full(samples.size() + 20);
    CHECK_THROWS_WITH(run.append(measured_row(8, 1500)), Catch::Contains("samples.csv"));
    CHECK_THROWS_WITH(run.break_off({{"long", std::string(samples.size(), '-')}}),
                      Catch::Contains("run.json"));
  }
  CHECK(read(scratch.path / "results.csv") == results);
  CHECK(read(scratch.path / "samples.csv") == samples);
  CHECK(read(scratch.path / "run.json") == run_json);
  CHECK(run.rows().size() == 1);
  run.append(measured_row(8, 1500));
  const std::string grown = read(scratch.path / "results.csv");
  CHECK(grown.starts_with(results + measured_row(8, 1500).id));
  {
    const FileSizeLimit full(results.size());
    CHECK_THROWS_WITH(run.finish({}), Catch::Contains("results.csv'"));
  }
  CHECK(read(scratch.path / "results.csv") == grown);
  for (const auto& entry : fs::directory_iterator(scratch.path))
    CHECK(entry.path().extension() != ".partial");
}

TEST_CASE("a run that is broken off says so, and can be continued") {
  ScratchDirectory scratch;
  {
    RunDirectory run(scratch.path, false);
    run.begin({{"end_time", nullptr}});
    run.append(measured_row(4, 1000));
    run.break_off({{"end_time", "t1"}, {"broken_off_by", "SIGTERM"}});
  }
  const auto broken = nlohmann::json::parse(read(scratch.path / "run.json"));
  CHECK(broken["complete"] == false);
  CHECK(broken["broken_off_by"] == "SIGTERM");
  RunDirectory run(scratch.path, true);
  CHECK(run.rows().size() == 1);
  run.begin({{"end_time", nullptr}});
  CHECK_FALSE(nlohmann::json::parse(read(scratch.path / "run.json")).contains("broken_off_by"));
}

TEST_CASE("a run killed while it made its first files is begun anew by --resume") {
  ScratchDirectory scratch;
  fs::create_directories(scratch.path);
  std::ofstream(scratch.path / "samples.csv") << "id,sample,ttl_us\n";
  std::ofstream(scratch.path / "results.csv.partial") << "id,sta";
  RunDirectory run(scratch.path, true);
  CHECK(read(scratch.path / "results.csv") == csv_line(result_header()));
  CHECK_FALSE(fs::exists(scratch.path / "results.csv.partial"));
}

TEST_CASE("a run.json that no run wrote is refused") {
  for (const char* text : {"", "[]", "{}", "{\"resumed\": 1", "{\"resumed\": \"1\"}", "{\"resumed\": -1}",
                           "{\"resumed\": 2147483647}", "{\"resumed\": 1e400}"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_run_json(text, "run.json"), UsageError);
  }
  CHECK(parse_run_json("{\"resumed\": 3}", "run.json")["resumed"] == 3);
}

TEST_CASE("a run that ended before its first row can be continued") {
  ScratchDirectory scratch;
  { RunDirectory before_calibration(scratch.path, false); }
  RunDirectory run(scratch.path, true);
  run.begin(nlohmann::ordered_json::object());
  run.append(measured_row(4, 1000));
  run.finish(nlohmann::ordered_json::object());
  ResultRow on_frontier = measured_row(4, 1000);
  on_frontier.pareto = true;
  CHECK(read(scratch.path / "results.csv") == csv_line(result_header()) + csv_line(to_record(on_frontier)));
}

TEST_CASE("directories that are no use are refused in one line") {
  ScratchDirectory scratch;
  fs::create_directories(scratch.path);
  std::ofstream(scratch.path / "file") << "x";
  const auto refusal = [](const fs::path& path, bool resume) {
    return usage_error([&] { RunDirectory run(path, resume); });
  };
  CHECK_THAT(refusal(scratch.path, false), Catch::Contains("not empty"));
  CHECK_THAT(refusal(scratch.path, true), Catch::Contains("results.csv"));
  CHECK_THAT(refusal(scratch.path / "file", false), Catch::Contains("--out"));
  CHECK_THAT(refusal(scratch.path / "file" / "below", false), Catch::Contains("--out"));
  std::ofstream(scratch.path / "results.csv") << "other,columns\n";
  CHECK_THAT(refusal(scratch.path, true), Catch::Contains("columns"));
  CHECK(read(scratch.path / "results.csv") == "other,columns\n");

  {
    const FileSizeLimit full(5);
    CHECK_THAT(refusal(scratch.path / "full", false),
               Catch::Contains("--out") && Catch::Contains("cannot write"));
  }

  const RunDirectory alive(scratch.path / "alive", false);
  CHECK_THAT(refusal(scratch.path / "alive", true), Catch::Contains("another run"));
}

TEST_CASE("run.json of a resumed run tells of every part, with the calibration of each") {
  ScratchDirectory scratch;
  const auto json = [&] { return nlohmann::json::parse(read(scratch.path / "run.json")); };
  {
    RunDirectory run(scratch.path, false);
    run.begin({{"start_time", "t0"}, {"command_line", {"a"}}, {"calibration", "first"}});
    CHECK_FALSE(json().contains("parts"));
    run.append(measured_row(4, 1000));
    run.append(measured_row(8, 1500));
  }  // killed
  {
    RunDirectory run(scratch.path, true);
    run.begin({{"start_time", "t1"}, {"command_line", {"b"}}, {"calibration", "second"}});
    run.append(measured_row(16, 1500));
    run.break_off({{"end_time", "t2"}, {"broken_off_by", "SIGTERM"}});
  }
  {
    RunDirectory run(scratch.path, true);
    run.begin({{"start_time", "t3"}, {"command_line", {"c"}}, {"calibration", "third"}});
    run.append(measured_row(32, 1500));
    run.finish({{"end_time", "t4"}});
  }
  const auto run = json();
  CHECK(run["command_line"][0] == "a");
  CHECK(run["resumed"] == 2);
  REQUIRE(run["parts"].size() == 3);
  const auto part = [&](int i) {
    const auto& p = run["parts"][static_cast<std::size_t>(i)];
    return std::tuple(p["calibration"].get<std::string>(), p["first_row"].get<int>(), p["rows"].get<int>());
  };
  CHECK(part(0) == std::tuple("first", 0, 2));
  CHECK(part(1) == std::tuple("second", 2, 1));
  CHECK(part(2) == std::tuple("third", 3, 1));
  CHECK(run["parts"][1]["broken_off_by"] == "SIGTERM");
  CHECK(run["parts"][2]["end_time"] == "t4");
}
