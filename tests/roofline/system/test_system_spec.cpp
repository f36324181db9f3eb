#include <catch2/catch.hpp>
#include <fstream>

#include "roofline/system/system_spec.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
using Catch::Matchers::Contains;

namespace {

SystemSpec host() {
  SystemSpec s;
  s.name = "my host";
  s.device = "a CPU: \"quoted\"";
  s.calibrated = true;
  s.dram = {.datasheet_bytes_per_s = 2e11, .achieved_bytes_per_s = 1.25e10, .capacity_bytes = 1.6e10};
  s.peak_flops = {.bf16 = 1e12, .fp8 = 0, .fp4 = 0};
  s.sms = 2;
  s.link = {.bytes_per_s = 1e10, .domain = 8, .beyond_bytes_per_s = 1e9, .beyond_latency_us = 5};
  s.kernels = {{.family = KernelFamily::gemm,
                .dtype = DType::fp8,
                .fixed_us = 1.5,
                .bytes_per_s = 1.1e10,
                .flops_per_s = 3e11,
                .norm = 3}};
  s.collectives = {
      {.op = Collective::all_to_all, .group = 4, .alpha_us = 2.25, .bytes_per_s = 1.0 / 3 * 1e10}};
  s.origin = {{"kernels", "calibrate: this machine"}};
  return s;
}

std::string error_of(const std::string& yaml) {
  return usage_error([&] { parse_system(yaml, "x.yaml"); });
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("Every built-in system loads, knows its origin and survives writing and reading") {
  const auto names = built_in_systems();
  for (const char* needed : {"b200", "gb200", "b300", "gb300", "rtx-pro-6000", "h100", "h200"}) {
    INFO(needed);
    CHECK(std::count(names.begin(), names.end(), needed) == 1);
  }
  for (const std::string& name : names) {
    INFO(name);
    const SystemSpec s = load_system(name);
    CHECK(s.name == name);
    for (const char* section : {"dram", "peak_flops", "sms", "link", "gpu"}) {
      INFO(section);
      CHECK(s.origin.count(section) == 1);
    }
    CHECK(to_yaml(parse_system(to_yaml(s), "again")) == to_yaml(s));
  }
}

TEST_CASE("A measured system is written and read without loss") {
  const SystemSpec s = host();
  const SystemSpec read = parse_system(to_yaml(s), "x.yaml");
  CHECK(read.device == s.device);
  CHECK(read.calibrated);
  REQUIRE(read.kernels.size() == 1);
  CHECK(read.kernels[0].dtype == DType::fp8);
  CHECK(read.kernels[0].norm == 3);
  REQUIRE(read.collectives.size() == 1);
  CHECK(read.collectives[0].bytes_per_s == s.collectives[0].bytes_per_s);  // 17 digits: exact
  CHECK(read.origin == s.origin);
  CHECK(read.roofline_bytes_per_s() == 1.25e10);
}

TEST_CASE("Unusable system files are refused with what is wrong") {
  const std::string good = to_yaml(host());
  REQUIRE(error_of(good) == "");
  CHECK_THAT(error_of("[1, 2"), Contains("x.yaml"));
  CHECK_THAT(error_of("just text"), Contains("map"));
  CHECK_THAT(error_of(replaced(good, "capacity_bytes", "capacity_byte")), Contains("capacity_bytes"));
  CHECK_THAT(error_of(good + "colour: blue\n"), Contains("unknown key 'colour'"));
  CHECK_THAT(error_of(replaced(good, "200000000000", "-1")), Contains("datasheet_bytes_per_s"));
  CHECK_THAT(error_of(replaced(good, "200000000000", ".nan")), Contains("datasheet_bytes_per_s"));
  CHECK_THAT(error_of(replaced(good, "200000000000", "fast")), Contains("must be a number"));
  CHECK_THAT(error_of(replaced(good, "all_to_all", "all_for_one")), Contains("all_reduce, all_gather"));
  CHECK_THAT(error_of(replaced(good, "group: 4", "group: 2.5")), Contains("integer"));
  CHECK_THAT(error_of(replaced(good, "dtype: fp8", "dtype: int3")), Contains("bf16, fp8"));
  CHECK_THROWS_WITH(load_system("no-such"), Contains("gb200"));
}

TEST_CASE("Built-in names are found in any case") {
  CHECK(load_system("GB200").name == "gb200");
}
