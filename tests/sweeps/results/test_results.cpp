#include <sys/resource.h>
#include <catch2/catch.hpp>

#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <tuple>

#include "roofline/base/error.hpp"
#include "sweeps/output/table.hpp"
#include "sweeps/request/enumerate.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/results.hpp"
#include "tests/scratch_folder.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
namespace fs = std::filesystem;

namespace {

/// A run directory that is still to be made.
struct ScratchDirectory {
  ScratchFolder folder;
  fs::path path = folder.path / "run";
};

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

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

ResultRow measured_row(std::int64_t batch, double ttl_us) {
  ResultRow row;
  row.config = {
      .model = "m", .strategy = Strategy::helix, .sharding = {.kvp = 2, .tpa = 1, .tpf = 2}, .shape = {}};
  row.config.shape.context = 65536;
  row.config.shape.batch = batch;
  row.id = configuration_id(row.config);
  row.config.precision = "attention=bf16 ffn=bf16";
  row.config.precision_source = "flag";
  row.system = "here";
  row.backend = "cpu";
  row.kernel = "avx2";
  row.layers_measured = row.layers_total = 16;
  row.verify_rel_error = 0.00125;
  Measurement& m = row.measurement.emplace();
  m.samples_us = {ttl_us, ttl_us + 1};
  m.samples = 2;
  m.ttl_us = ttl_us;
  m.ttl_p90_us = ttl_us + 2;
  m.ttl_p99_us = ttl_us + 3;
  m.ttl_min_us = ttl_us - 1;
  m.ttl_rel_stderr = 0.004;
  for (std::size_t i = 0; i < phase_count; ++i) m.phases.us[i] = 10.0 * static_cast<double>(i + 1);
  m.exposed_comm_us = 33;
  m.stop = StopReason::plateau;
  Prediction& p = row.prediction.emplace();
  p.roofline_ttl_us = 500;
  p.model_ttl_us = 1100;
  for (std::size_t i = 0; i < phase_count; ++i) p.phases.us[i] = static_cast<double>(i + 1);
  p.bound = Bound::latency;
  p.kv_bytes_per_rank = 1e10;
  p.weight_bytes_per_rank = 2e9;
  p.comm_bytes_per_rank = 4096;
  p.memory_bytes_per_rank = 12345678901;
  p.max_batch = 17;
  p.memory_capacity_bytes = 2e10;
  p.memory_fraction = 0.92;
  p.max_context = 131072;
  row.meets_budget = true;
  p.kv_tokens_per_rank = 524288;
  return row;
}

ResultRow skipped_row() {
  ResultRow row;
  row.config = {.model = "m", .strategy = Strategy::tp, .sharding = {}, .shape = {}};
  row.config.shape.context = 1024;
  row.id = configuration_id(row.config);
  row.status = Status::skipped;
  row.reason = "does not fit memory: needs 10, has 4";
  return row;
}

const std::string golden_header =
    "id,status,reason,strategy,model,system,backend,kernel,ranks,kvp,tpa,tpf,ep,pp,dp,context,batch,hop_b,"
    "tokens_per_block,weight_dtype,kv_dtype,precision,precision_source,layers_measured,layers_total,samples,"
    "ttl_us,ttl_p90_us,ttl_p99_"
    "us,"
    "ttl_min_us,ttl_rel_stderr,tokens_per_s_user,tokens_per_s_gpu,roofline_ttl_us,model_ttl_us,roofline_"
    "fraction,"
    "model_error,bound,attn_us,a2a_us,merge_us,attn_proj_us,attn_allreduce_us,ffn_us,ffn_comm_us,head_us,"
    "exposed_comm_us,model_attn_us,model_a2a_us,model_ffn_us,model_comm_us,kv_bytes_per_rank,weight_bytes_"
    "per_rank,"
    "comm_bytes_per_rank,memory_bytes_per_rank,max_batch,verify_rel_error,pareto,stop_reason,"
    "model_attn_share,model_merge_share,model_attn_proj_share,model_ffn_share,model_comm_share,model_head_"
    "share,"
    "kv_tokens_per_rank,kv_duplication,meets_budget,memory_capacity_bytes,memory_fraction,max_context,"
    "engine,dcp,usd_per_mtok,joules_per_token,confidence,extrapolated,active_parameters,kv_bytes_per_token,kv_read_bytes_per_token,"
    "state_bytes_per_request,memory_weights_share,memory_kv_share,memory_state_share\n";
const std::string golden_measured =
    "m/helix/kvp2.tpa1.tpf2.ep1/s65536/b4/bf16-bf16/"
    "blk32,ok,,helix,m,here,cpu,avx2,2,2,1,2,1,1,1,65536,4,1,32,bf16,"
    "bf16,attention=bf16 "
    "ffn=bf16,flag,16,16,2,1000,1002,1003,999,0.004,1000,2000,500,1100,0.5,0.1,latency,10,20,30,40,50,60,70,"
    "80,33,1,2,"
    "6,14,"
    "10000000000,2000000000,4096,12345678901,17,0.00125,1,plateau,"
    "0.0009,0.0027,0.0036,0.0055,0.0127,0.0073,524288,1,1,20000000000,0.92,131072,none,,,,,,,,,,0,0,0\n";
const std::string golden_skipped =
    "m/tp/kvp1.tpa1.tpf1.ep1/s1024/b1/bf16-bf16/blk32,skipped,\"does not fit memory: needs 10, has "
    "4\",tp,m,,,,1,1,1,1,"
    "1,1,1,1024,1,1,32,bf16,bf16,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,\n";

}  // namespace

TEST_CASE("results.csv, samples.csv, pareto.csv and run.json have the stable form") {
  ScratchDirectory scratch;
  RunDirectory run(scratch.path, false);
  run.begin({{"schema_version", 1},
             {"start_time", "t0"},
             {"command_line", {"helix-bench"}},
             {"end_time", nullptr}});
  CHECK(read(scratch.path / "results.csv") == golden_header);
  run.append(measured_row(4, 1000));
  run.append(skipped_row());
  std::string unfinished = golden_measured;
  unfinished.replace(unfinished.rfind(",1,plateau"), 2, ",0");
  CHECK(read(scratch.path / "results.csv") == golden_header + unfinished + golden_skipped);
  run.finish({{"end_time", "t1"}});
  CHECK(read(scratch.path / "results.csv") == golden_header + golden_measured + golden_skipped);
  CHECK(read(scratch.path / "pareto.csv") == golden_header + golden_measured);
  CHECK(read(scratch.path / "samples.csv") ==
        "id,sample,ttl_us\nm/helix/kvp2.tpa1.tpf2.ep1/s65536/b4/bf16-bf16/blk32,0,1000\nm/helix/"
        "kvp2.tpa1.tpf2.ep1/s65536/b4/bf16-bf16/blk32,1,1001\n");
  CHECK(read(scratch.path / "run.json") == R"({
  "schema_version": 1,
  "start_time": "t0",
  "command_line": [
    "helix-bench"
  ],
  "end_time": "t1",
  "resumed": 0,
  "complete": true
}
)");
  for (const auto& entry : fs::directory_iterator(scratch.path))
    CHECK(entry.path().extension() != ".partial");
}

TEST_CASE("a row read back is written the same") {
  ResultRow predicted = measured_row(2, 1);
  predicted.measurement.reset();
  predicted.verify_rel_error.reset();
  predicted.prediction->tokens_per_s_user = 909.0909;
  predicted.prediction->tokens_per_s_gpu = 1818.182;
  predicted.prediction->exposed_comm_us = 5;
  ResultRow failed = skipped_row();
  failed.status = Status::failed;
  failed.reason = "verification: \"off\" by\n2";
  ResultRow partial = measured_row(3, 1);
  partial.layers_measured = 6;
  partial.config.layers = 6;
  for (const ResultRow& row : {measured_row(4, 1234.567), skipped_row(), predicted, failed, partial}) {
    CAPTURE(row.id);
    const ResultRow back = from_record(to_record(row));
    CHECK(to_record(back) == to_record(row));
    CHECK(back.config.layers == row.config.layers);
    CHECK(back.measurement.has_value() == row.measurement.has_value());
  }
}

TEST_CASE("NaN and infinity become empty columns") {
  ResultRow row = measured_row(1, 1000);
  row.measurement->ttl_p99_us = std::numeric_limits<double>::quiet_NaN();
  row.measurement->phases.us.fill(std::numeric_limits<double>::infinity());
  row.prediction->model_ttl_us = std::numeric_limits<double>::quiet_NaN();
  row.prediction->memory_bytes_per_rank = -std::numeric_limits<double>::infinity();
  for (const std::string& field : to_record(row)) {
    CHECK(field.find("nan") == std::string::npos);
    CHECK(field.find("inf") == std::string::npos);
  }
}

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
  CHECK(read(scratch.path / "results.csv") == golden_header);
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
  CHECK(read(scratch.path / "results.csv") == golden_header + golden_measured);
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

TEST_CASE("the frontier is that of one model, context and precision") {
  std::vector<ResultRow> rows{measured_row(1, 1000), measured_row(8, 2000), measured_row(2, 3000),
                              measured_row(1, 5000), skipped_row()};
  rows[3].config.shape.context = 1024;  // alone in its group
  mark_pareto(rows);
  std::vector<bool> marks;
  for (const ResultRow& row : rows) marks.push_back(row.pareto);
  // tokens/s/user, tokens/s/GPU: (1000, 500) and (500, 2000) stay; (333, 333) is beaten by both.
  CHECK(marks == std::vector<bool>{true, true, false, true, false});
}

TEST_CASE("the frontier and what is printed only know rows within the budget") {
  std::vector<ResultRow> rows{measured_row(1, 1000), measured_row(8, 2000), skipped_row()};
  rows[1].meets_budget = false;
  mark_pareto(rows);
  CHECK(rows[0].pareto);
  CHECK_FALSE(rows[1].pareto);
  CHECK(rows_to_print(rows, OutputFormat::json).size() == 1);
  CHECK(rows_to_print(rows, OutputFormat::table).size() == 2);  // and why one was skipped
  CHECK_THAT(budget_text(rows, 1.5), Catch::StartsWith("1 of 3 rows meet the budget of 1.5 ms"));
  rows[0].meets_budget = rows[1].meets_budget = std::nullopt;
  CHECK(rows_to_print(rows, OutputFormat::csv).size() == 3);
}

TEST_CASE("predictions of several systems have a frontier each, measured rows one") {
  ResultRow fast = measured_row(4, 1);
  fast.measurement.reset();
  fast.prediction->tokens_per_s_user = fast.prediction->tokens_per_s_gpu = 1000;
  ResultRow slow = fast;
  slow.prediction->tokens_per_s_user = slow.prediction->tokens_per_s_gpu = 10;
  slow.system = "elsewhere";
  std::vector<ResultRow> rows{fast, slow, measured_row(4, 1000), measured_row(4, 2000)};
  rows[3].system = "here-r4";
  mark_pareto(rows);
  CHECK(rows[0].pareto);
  CHECK(rows[1].pareto);
  CHECK(rows[2].pareto);
  CHECK_FALSE(rows[3].pareto);
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

TEST_CASE("rows are printed as a table, as JSON and as CSV") {
  std::vector<ResultRow> rows{measured_row(4, 1000), skipped_row()};
  rows[0].pareto = true;
  CHECK(format_csv(rows) == golden_header + golden_measured + golden_skipped);
  const auto json = nlohmann::json::parse(format_json(rows));
  REQUIRE(json.size() == 2);
  CHECK(json[0]["ttl_us"] == 1000);
  CHECK(json[0]["strategy"] == "helix");
  CHECK(json[1]["ttl_us"].is_null());
  const std::string table = format_table(rows);
  CHECK_THAT(table, Catch::Contains("64K") && Catch::Contains("+10.0 %") && Catch::Contains("50.0 %"));
  CHECK_THAT(table, Catch::Contains("skipped m/tp/") && Catch::Contains("needs 10, has 4"));
}
