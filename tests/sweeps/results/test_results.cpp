#include <catch2/catch.hpp>
#include <cmath>
#include <filesystem>
#include <limits>

#include "sweeps/output/table.hpp"
#include "sweeps/results/result_columns.hpp"
#include "sweeps/results/run_directory.hpp"
#include "tests/sweeps/results/rows.hpp"
#include "tests/sweeps/results/scratch_directory.hpp"

using namespace helix;
namespace fs = std::filesystem;

namespace {

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
    "engine,dcp,usd_per_mtok,joules_per_token,confidence,extrapolated,active_parameters,kv_bytes_per_token,"
    "kv_read_bytes_per_token,"
    "state_bytes_per_request,memory_weights_share,memory_kv_share,memory_state_share,measured_watts,"
    "draft_tokens,acceptance,tokens_per_step,rank_compute_us,predicted_exchange_us,ttl_composed_us,"
    "redundant_experts,draft_kv,draft_model,kernels\n";
const std::string golden_measured =
    "m/helix/kvp2.tpa1.tpf2.ep1/s65536/b4/bf16-bf16/"
    "blk32,ok,,helix,m,here,cpu,avx2,2,2,1,2,1,1,1,65536,4,1,32,bf16,"
    "bf16,attention=bf16 "
    "ffn=bf16,flag,16,16,2,1000,1002,1003,999,0.004,1000,2000,500,1100,0.5,0.1,latency,10,20,30,40,50,60,70,"
    "80,33,1,2,"
    "6,14,"
    "10000000000,2000000000,4096,12345678901,17,0.00125,1,plateau,"
    "0.0009,0.0027,0.0036,0.0055,0.0127,0.0073,524288,1,1,20000000000,0.92,131072,none,,,,,,,,,,0,0,0,,0,1,"
    "4,,,,0,,,own\n";
const std::string golden_one_rank =
    "m/helix/kvp2.tpa1.tpf2.ep1/s65536/b4/bf16-bf16/"
    "blk32,one rank of 2,,helix,m,here,cpu,avx2,2,2,1,2,1,1,1,65536,4,1,32,bf16,"
    "bf16,attention=bf16 "
    "ffn=bf16,flag,16,16,2,,,,,0.004,800,1600,500,1100,,,latency,10,20,30,40,50,60,70,"
    "80,5,1,2,"
    "6,14,"
    "10000000000,2000000000,4096,12345678901,17,,,plateau,"
    "0.0009,0.0027,0.0036,0.0055,0.0127,0.0073,524288,1,1,20000000000,0.92,131072,none,,,,,,,,,,0,0,0,,0,1,"
    "4,1000,250,1250,0,,,own\n";
const std::string golden_skipped =
    "m/tp/kvp1.tpa1.tpf1.ep1/s1024/b1/bf16-bf16/blk32,skipped,\"does not fit memory: needs 10, has "
    "4\",tp,m,,,,1,1,1,1,"
    "1,1,1,1024,1,1,32,bf16,bf16,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,,0,1,1,,,,"
    "0,,,own\n";

/// The same where one of its two ranks ran: nothing of it is a ttl_us.
ResultRow row_of_one_rank() {
  ResultRow row = measured_row(4, 1000);
  row.status = Status::one_rank;
  row.share = {.compute = *row.measurement, .exchange_us = 250};
  row.measurement.reset();
  row.verify_rel_error.reset();
  row.prediction->exposed_comm_us = 5;
  return row;
}

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

TEST_CASE(
    "of one rank's share the computing is measured, the exchange is predicted, and their sum is no ttl_us") {
  const ResultRow row = row_of_one_rank();
  CHECK(result_header().size() == to_record(row).size());
  CHECK(csv_line(to_record(row)) == golden_one_rank);
  const ResultRow back = from_record(to_record(row));
  CHECK(back.status == Status::one_rank);
  CHECK(back.share->compute.ttl_us == 1000);
  CHECK(back.share->exchange_us == 250);
  CHECK(tokens_per_s_user(back) == 800);
  CHECK_THAT(format_table(std::vector{row}), Catch::Contains("1.250"));

  ScratchDirectory scratch;
  RunDirectory run(scratch.path, false);
  run.begin({{"schema_version", 1}});
  run.append(row);
  CHECK_THAT(read(scratch.path / "samples.csv"),
             Catch::Contains("blk32,0,1000") && Catch::Contains("blk32,1,1001"));
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
  failed.reason = "\"off\" by\n2";
  ResultRow wrong = failed;
  wrong.status = Status::wrong;
  ResultRow partial = measured_row(3, 1);
  partial.layers_measured = 6;
  partial.config.layers = 6;
  partial.measurement->device_watts = 512.5;
  ResultRow drafted = predicted;
  drafted.config.shape.draft_tokens = 3;
  drafted.config.shape.acceptance = 0;
  ResultRow accepted = drafted;
  accepted.config.shape.acceptance = 2.5;
  ResultRow local = accepted;
  local.config.shape.draft_kv = DraftKv::local;
  ResultRow with_head = local;
  with_head.config.draft_head = "eagle3";
  const auto last = [](const ResultRow& row) {
    const CsvRecord record = to_record(row);
    return std::vector<std::string>(record.end() - 3, record.end());
  };
  ResultRow others_kernels = measured_row(4, 1000);
  others_kernels.config.shape.kernels = KernelMaker::trtllm_gen;
  CHECK(last(accepted) == std::vector<std::string>{"sharded", "", "own"});
  CHECK(last(local) == std::vector<std::string>{"local", "", "own"});
  CHECK(last(with_head) == std::vector<std::string>{"local", "eagle3", "own"});
  CHECK(last(others_kernels).back() == "trtllm-gen");
  for (const ResultRow& row : {measured_row(4, 1234.567), row_of_one_rank(), skipped_row(), predicted, failed,
                               wrong, partial, drafted, accepted, local, with_head, others_kernels}) {
    CAPTURE(row.id);
    const ResultRow back = from_record(to_record(row));
    CHECK(to_record(back) == to_record(row));
    CHECK(back.status == row.status);
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
