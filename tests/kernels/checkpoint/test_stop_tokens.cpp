#include <catch2/catch.hpp>

#include "kernels/checkpoint/stop_tokens.hpp"
#include "tests/scratch_folder.hpp"
#include "usage_error.hpp"

using namespace helix;
using namespace helix::testing;
using Catch::Matchers::Contains;

TEST_CASE("an answer ends at the tokens of generation_config.json, else of config.json") {
  const ScratchFolder folder;
  const auto tokens = [&] { return stop_tokens(folder.path); };
  CHECK(tokens().empty());
  folder.write("config.json", R"({"eos_token_id": 7, "time_step_limit": [0.0, Infinity]})");
  CHECK(tokens() == std::set<std::int32_t>{7});
  folder.write("generation_config.json", R"({"eos_token_id": null})");
  CHECK(tokens() == std::set<std::int32_t>{7});
  folder.write("generation_config.json", R"({"eos_token_id": [3, 5]})");
  CHECK(tokens() == std::set<std::int32_t>{3, 5});
  folder.write("generation_config.json", R"({"eos_token_id": -1})");
  CHECK_THAT(usage_error([&] { tokens(); }), Contains("generation_config.json: eos_token_id = -1: expected"));
}

TEST_CASE("a multimodal model's answer ends at its language model's token") {
  const ScratchFolder folder;
  folder.write("config.json", R"({"text_config": {"eos_token_id": 2}, "vision_config": {}})");
  CHECK(stop_tokens(folder.path) == std::set<std::int32_t>{2});
}
