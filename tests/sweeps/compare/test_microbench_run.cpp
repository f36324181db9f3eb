#include "sweeps/compare/microbench_run.hpp"

#include <catch2/catch.hpp>

#include <string>

#include "roofline/base/error.hpp"
#include "tests/scratch_folder.hpp"

using namespace helix;

namespace {

StoredRun read_microbench(const std::string& text) {
  const ScratchFolder folder;
  return read_microbench_run(folder.write("microbench.json", text));
}

}  // namespace

TEST_CASE("micro-benchmarks: repetitions are the samples, in us, and aggregates none") {
  const StoredRun run = read_microbench(R"({"context": {"host_name": "h", "num_cpus": 2}, "benchmarks": [
    {"name": "a/manual_time", "run_name": "a/manual_time", "run_type": "iteration", "real_time": 1500, "time_unit": "ns"},
    {"name": "a/manual_time", "run_name": "a/manual_time", "run_type": "iteration", "real_time": 2500, "time_unit": "ns"},
    {"name": "a/manual_time_median", "run_name": "a/manual_time", "run_type": "aggregate", "real_time": 2000, "time_unit": "ns"},
    {"name": "b", "run_type": "iteration", "real_time": 2, "time_unit": "ms"},
    {"name": "c", "run_type": "iteration", "error_occurred": true, "error_message": "no memory"}]})");
  REQUIRE(run.rows.size() == 3);
  CHECK(run.rows[0].id == "a/manual_time");
  CHECK(run.rows[0].samples_us == std::vector{1.5, 2.5});
  CHECK(run.rows[1].samples_us == std::vector{2000.0});
  CHECK(run.rows[2].status == Status::failed);
  CHECK(run.rows[2].reason == "no memory");
  CHECK(run.machine[0].value == "\"h\"");
  CHECK(run.complete);
}

TEST_CASE("micro-benchmarks: what is no such file is refused, by name") {
  for (const char* text :
       {"", "{", "[]", R"({"benchmarks": 3})", R"({"benchmarks": []})", R"({"benchmarks": [4]})",
        R"({"benchmarks": [{"name": "a"}]})", R"({"benchmarks": [{"real_time": 3}]})",
        R"({"benchmarks": [{"name": "a", "real_time": -3, "time_unit": "ns"}]})",
        R"({"benchmarks": [{"name": "a", "real_time": 3, "time_unit": "years"}]})",
        R"({"benchmarks": [{"name": "a", "run_type": "aggregate", "real_time": 3}]})"}) {
    INFO(text);
    CHECK_THROWS_AS(read_microbench(text), UsageError);
    CHECK_THROWS_WITH(read_microbench(text), Catch::Contains("microbench.json"));
  }
  CHECK_THROWS_AS(read_microbench(std::string(200'000, '[')), UsageError);
  CHECK_THROWS_AS(read_microbench_run("/nowhere"), UsageError);
  CHECK_THROWS_AS(read_microbench_run("/"), UsageError);
}
