#include <catch2/catch.hpp>

#include <string>

#include "sweeps/request/enumerate.hpp"
#include "sweeps/request/sweep_file.hpp"
#include "tests/usage_error.hpp"

using namespace helix;

namespace {

SweepRequest sweep(const std::string& yaml) {
  SweepRequest request;
  parse_sweep(yaml, "f.yaml", request);
  return request;
}

std::string sweep_error(const std::string& yaml) {
  return usage_error([&] { sweep(yaml); });
}

}  // namespace

TEST_CASE("a sweep file holds lists, one value, and quantities of the run") {
  const SweepRequest request = sweep(
      "model: llama-3.2-1b\ncontext: [4k, 64k]\nkvp: 1:4\ntokens_per_block: 16\nseed: 7\nrel-error: 0.01\n");
  REQUIRE(request.blocks.size() == 1);
  const SweepSpace& block = request.blocks[0];
  CHECK(block.models == std::vector<std::string>{"llama-3.2-1b"});
  CHECK(block.contexts.values == std::vector<std::int64_t>{4096, 65536});
  CHECK(block.kvp.values == std::vector<std::int64_t>{1, 2, 4});
  CHECK(block.tokens_per_block == 16);
  CHECK(request.seed == 7);
  CHECK(request.stopping.relative_error == 0.01);
}

TEST_CASE("blocks override what stands above them") {
  const SweepRequest request =
      sweep("batch: 2\nsweeps:\n  - model: a\n  - model: b\n    batch: [4, 8]\n    layers: 6\n");
  REQUIRE(request.blocks.size() == 2);
  CHECK(request.blocks[0].batches.values == std::vector<std::int64_t>{2});
  CHECK(request.blocks[1].batches.values == std::vector<std::int64_t>{4, 8});
  CHECK(request.blocks[0].layers == 0);
  CHECK(request.blocks[1].layers == 6);
}

TEST_CASE("what a sweep file may not say is refused by name") {
  CHECK_THAT(sweep_error("modell: x"),
             Catch::Contains("'modell'") && Catch::Contains("tokens-per-block") && Catch::Contains("seed"));
  CHECK_THAT(sweep_error("sweeps:\n  - seed: 3\n"), Catch::Contains("'seed'"));
  CHECK_THAT(sweep_error("context: -4"), Catch::StartsWith("f.yaml: context '-4'"));
  CHECK_THAT(sweep_error("context: {a: 1}"), Catch::Contains("context"));
  CHECK_THAT(sweep_error("context: []"), Catch::Contains("context"));
  CHECK_THAT(sweep_error("context:"), Catch::Contains("context"));
  CHECK_THAT(sweep_error("context: [1\n"), Catch::Contains("malformed"));
  for (const std::string text :
       {"", "- a\n", "42", "sweeps: []", "sweeps: 3", "sweeps: [a]", "[a]: 1", "sweeps:"}) {
    CAPTURE(text);
    CHECK_FALSE(sweep_error(text).empty());
    CHECK(sweep_error(text).find('\n') == std::string::npos);
  }
}

TEST_CASE("the built-in sweeps are sound: their models load and they have points") {
  for (const std::string& name : built_in_sweeps()) {
    CAPTURE(name);
    SweepRequest request;
    load_sweep(name, request);
    const ModelTable models = load_models(request.blocks);
    const int ranks = name.ends_with("-crossover") ? 8 : 2;  // what these are about
    CHECK(enumerate(request.blocks, models, {.max_ranks = ranks}, ranks).size() >= 4);
  }
  SweepRequest request;
  CHECK_THAT(usage_error([&] { load_sweep("no-such-sweep", request); }), Catch::Contains("default"));
}
