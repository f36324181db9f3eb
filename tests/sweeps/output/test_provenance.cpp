#include <catch2/catch.hpp>

#include <cstdlib>
#include <regex>

#include "sweeps/output/provenance.hpp"

using namespace helix;

TEST_CASE("run.json says where a run comes from, in a stable form") {
  SweepRequest request;
  request.command_line = {"helix-bench", "sweep"};
  request.seed = 7;
  EngineProvenance engine;
  engine.backend = "cpu";
  engine.kernel = "avx2";
  engine.world_ranks = 2;
  const nlohmann::ordered_json run = run_provenance(request, engine);

  std::vector<std::string> keys;
  for (const auto& [key, value] : run.items()) keys.push_back(key);
  CHECK(keys == std::vector<std::string>{"schema_version",
                                         "program",
                                         "version",
                                         "commit",
                                         "command_line",
                                         "start_time",
                                         "end_time",
                                         "seed",
                                         "models",
                                         "stopping",
                                         "ttl_budget_ms",
                                         "memory_fraction",
                                         "backend",
                                         "kernel",
                                         "device",
                                         "device_at_start",
                                         "device_at_end",
                                         "devices_measured",
                                         "mpi",
                                         "system",
                                         "calibration",
                                         "host",
                                         "libraries",
                                         "environment"});
  CHECK(run["command_line"] == nlohmann::ordered_json(request.command_line));
  CHECK(run["seed"] == 7);
  CHECK(run["mpi"]["ranks"] == 2);
  CHECK(run["device"].is_null());
  CHECK(run["device_at_start"].is_null());
  CHECK(to_json({{"sm_clock_mhz", "1965"}, {"throttle_reasons", "none"}}).dump() ==
        R"({"sm_clock_mhz":"1965","throttle_reasons":"none"})");
  CHECK(run["host"]["cores_online"] > 0);
  CHECK_FALSE(run["libraries"]["mpi"].get<std::string>().empty());
  CHECK_FALSE(program_commit().empty());
  CHECK(run["host"].contains("distribution"));
}

TEST_CASE("run.json names the compiler, the system and the version of every library of the build") {
  const nlohmann::ordered_json libraries = run_provenance({}, {})["libraries"];
  CHECK(std::regex_match(libraries["compiler"].get<std::string>(), std::regex(R"(\w+ \d+\.\d+\.\d+)")));
  CHECK_FALSE(libraries["built_on"].get<std::string>().empty());
  CHECK(std::regex_match(libraries["mpi_standard"].get<std::string>(), std::regex(R"([34]\.\d)")));
  for (const char* library : {"CLI11", "fmt", "highway", "nlohmann_json", "pugixml", "yaml-cpp"}) {
    CAPTURE(library);
    REQUIRE(libraries.contains(library));
    CHECK(std::regex_match(libraries[library].get<std::string>(), std::regex(R"(\d+\.\d+(\.\d+)?)")));
  }
  CHECK(std::regex_search(std::string(program_version()), std::regex(R"(^\d+\.\d+\.\d+)")));
}

TEST_CASE("only the allow-listed environment is kept") {
  setenv("HELIX_TEST_TOKEN", "secret", 1);
  setenv("OMP_NUM_THREADS", "3", 1);
  const nlohmann::ordered_json environment = run_provenance({}, {})["environment"];
  CHECK(environment["OMP_NUM_THREADS"] == "3");
  CHECK(environment.dump().find("secret") == std::string::npos);
}

TEST_CASE("times are UTC in ISO 8601") {
  CHECK(std::regex_match(utc_now(), std::regex(R"(20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\dZ)")));
}
