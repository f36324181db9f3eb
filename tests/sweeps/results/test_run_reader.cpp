#include <catch2/catch.hpp>

#include <filesystem>

#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/rows.hpp"
#include "sweeps/results/run_reader.hpp"
#include "tests/scratch_folder.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
namespace fs = std::filesystem;

namespace {

struct ScratchRun : ScratchFolder {
  ScratchRun() { write("run.json", "{}"); }
};

std::string refusal(const fs::path& path) {
  return usage_error([&] { read_run(path); });
}

constexpr Sharding eight{.kvp = 8, .tpa = 1, .tpf = 8, .ep = 1, .pp = 1, .dp = 1};

}  // namespace

TEST_CASE("a run reads back by the names of its columns, with frontier marks of its own") {
  const ScratchRun run;
  CsvRecord header = result_header(), fast = to_record(predicted_row(Strategy::helix, eight, 5e3)),
            slow = to_record(predicted_row(Strategy::tp, {.kvp = 1, .tpa = 8, .tpf = 8}, 9e3));
  for (CsvRecord* record : {&header, &fast, &slow}) {
    std::ranges::reverse(*record);            // another order,
    record->push_back("of another version");  // an unknown column,
    record->erase(record->begin());           // and one too few
  }
  run.write("results.csv", csv_line(header) + csv_line(fast) + csv_line(slow));
  run.write(
      "crossover.csv",
      "model,context,batch,ranks,weight_dtype,kv_dtype,winner,ttl_us,kvp,tpa,tpf,ep,pp,dp,hop_b,runner_up,"
      "runner_up_ttl_us,gain\nm,1024,2,8,fp4,fp8,helix,5000,8,1,8,1,1,1,1,tp,9000,1.8\n"
      "m,2048,2,8,fp4,fp8,tp,5000,1,8,8,1,1,1,1,,,\n");
  const Run read = read_run(run.path);
  REQUIRE(read.rows.size() == 2);
  CHECK(read.name == run.path.filename());
  CHECK(read.rows[0].config.sharding == eight);
  CHECK(read.rows[0].prediction->model_ttl_us == 5e3);
  CHECK(read.rows[0].pareto);
  CHECK_FALSE(read.rows[1].pareto);
  CHECK_FALSE(read.measured());
  REQUIRE(read.crossover.size() == 2);
  CHECK(read.crossover[0].gain == 1.8);
  CHECK(read.crossover[0].runner_up == Strategy::tp);
  CHECK_FALSE(read.crossover[1].runner_up);
}

TEST_CASE("what is no run is refused with file, line and column") {
  const ScratchRun run;
  CHECK_THAT(refusal(run.path), Catch::Contains("no run directory"));
  const std::string header = csv_line(result_header());
  run.write("results.csv", header);
  CHECK_THAT(refusal(run.path), Catch::Contains("no rows"));
  ResultRow row = predicted_row(Strategy::helix, eight);
  row.config.sharding.kvp = 0;
  run.write("results.csv", header + csv_line(to_record(row)));
  CHECK_THAT(refusal(run.path), Catch::Contains("line 2") && Catch::Contains("kvp"));
  row = predicted_row(Strategy::helix, eight);
  row.prediction.reset();
  run.write("results.csv", header + csv_line(to_record(row)));
  CHECK_THAT(refusal(run.path), Catch::Contains("ok row without"));
  run.write("results.csv", header + csv_line(to_record(predicted_row(Strategy::helix, eight))));
  CHECK(refusal(run.path).empty());
  run.write("crossover.csv", "model,context\nm,many\n");
  CHECK_THAT(refusal(run.path), Catch::Contains("crossover.csv") && Catch::Contains("many"));
  run.write("run.json", "[]");
  fs::remove(run.path / "crossover.csv");
  CHECK_THAT(refusal(run.path), Catch::Contains("run.json"));
}
