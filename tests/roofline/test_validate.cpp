#include <catch2/catch.hpp>
#include <cmath>
#include <sstream>

#include "roofline/error.hpp"
#include "roofline/gpu_cost.hpp"
#include "roofline/validate.hpp"

using namespace helix;

namespace {

const std::string gqa_header =
    "op,device,kv_dtype,batch,q_heads,kv_heads,head_dim,context_len_tokens,kv_bytes,slow_mmha_fallback,"
    "latency_us\n";

double gqa_us(const std::string& system, std::int64_t tokens) {
  const AttentionShape s{
      .batch = 8, .q_heads = 64, .kv_heads = 8, .head_dim = 128, .v_dim = 128, .tokens = tokens};
  return gqa_time(load_system(system), s, 8.0 * 2 * 8 * 128 * 2 * static_cast<double>(tokens),
                  Setting::benchmark_loop)
      .total_us;
}

std::string gqa_row(const std::string& device, std::int64_t tokens, double latency_us, bool slow = false) {
  std::ostringstream row;
  row.precision(17);
  row << "gqa_decode," << device << ",bfloat16,8,64,8,128," << tokens << ',' << 8 * 2 * 8 * 128 * 2 * tokens
      << ',' << slow << ',' << latency_us << '\n';
  return row.str();
}

Validation of(const std::string& csv) {
  std::istringstream in(csv);
  return validate(in, "x.csv");
}

}  // namespace

TEST_CASE("Errors are those of the model against the rows, in percent") {
  std::string csv = gqa_header;
  for (int i = 0; i < 11; ++i) csv += gqa_row("b200", 4096, gqa_us("b200", 4096) / (1 + 0.01 * i));
  csv += gqa_row("b200", 512, 1);            // below the decode regime
  csv += gqa_row("b200", 4096, 1000, true);  // another kernel
  const Validation v = of(csv);
  REQUIRE(v.families.size() == 1);
  CHECK(v.families[0].family == "gqa_decode");
  CHECK(v.families[0].rows == 11);
  CHECK(v.families[0].mdape == Approx(5));
  CHECK(v.families[0].mape == Approx(5));
  CHECK(v.families[0].p90 == Approx(9));
  CHECK(v.left_out.size() == 2);
}

TEST_CASE("Devices are found by their names, with suffixes and in any spelling") {
  for (const auto& [device, system] : {std::pair{"gb200_nvl72", "gb200"}, std::pair{"GB300-NVL72", "gb300"},
                                       std::pair{"b300_sxm", "b300"}, std::pair{"NVIDIA B200", "b200"}}) {
    const Validation v = of(gqa_header + gqa_row(device, 65536, gqa_us(system, 65536)));
    INFO(device);
    REQUIRE(v.families.size() == 1);
    CHECK(v.families[0].mape == Approx(0).margin(1e-9));
  }
}

TEST_CASE("Unusable measurement files are refused with the line") {
  using Catch::Contains;
  CHECK_THROWS_WITH(of(""), Contains("empty"));
  CHECK_THROWS_WITH(of("op,device,latency_us\nfrobnicate,b200,1\n"),
                    Contains("x.csv:2") && Contains("gqa_decode"));
  CHECK_THROWS_WITH(of("op,device,latency_us\ngemm,b200,1\n"), Contains("gemm_dtype"));
  CHECK_THROWS_WITH(of("op,device,latency_us\ngemm,a100,1\n"), Contains("gb200"));
  CHECK_THROWS_WITH(of(gqa_header + gqa_row("b200", 4096, 0)), Contains("latency_us"));
  CHECK_THROWS_AS(validate("no/such.csv"), UsageError);
}

TEST_CASE("What is resident in the L2 is never slower than the same from DRAM, its longer fixed time aside") {
  const SystemSpec b200 = load_system("b200");
  for (std::int64_t tokens : {1024, 8192, 65536, 1 << 20}) {
    const AttentionShape s{
        .batch = 1, .q_heads = 64, .kv_heads = 8, .head_dim = 128, .v_dim = 128, .tokens = tokens};
    const double bytes = 2.0 * 8 * 128 * 2 * static_cast<double>(tokens);
    const double cold = gqa_time(b200, s, bytes, Setting::decode_step).total_us;
    const double warm = gqa_time(b200, s, bytes, Setting::benchmark_loop).total_us;
    const auto& g = b200.gpu->gqa;
    CHECK(warm - g.isolated_us <= cold - g.kernels * b200.gpu->common.kernel_us);
  }
}
