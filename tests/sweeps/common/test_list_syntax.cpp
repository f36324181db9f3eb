#include <catch2/catch.hpp>

#include <string>

#include "roofline/base/error.hpp"
#include "sweeps/common/list_syntax.hpp"
#include "tests/scratch_folder.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
using Values = std::vector<std::int64_t>;

namespace {
Values contexts(const std::string& text) {
  return parse_choice(text, context_tokens, "--context").values;
}

std::string refusal(const std::string& text, const Quantity& quantity) {
  return usage_error([&] { parse_choice(text, quantity, "--flag"); });
}
}  // namespace

TEST_CASE("a LIST is values, ranges of powers of two, or auto") {
  CHECK(contexts("1,2,4") == Values{1, 2, 4});
  CHECK(contexts(" 8 , 2") == Values{8, 2});
  CHECK(contexts("1:64") == Values{1, 2, 4, 8, 16, 32, 64});
  CHECK(contexts("3:20") == Values{4, 8, 16});
  CHECK(contexts("1:4,4,5") == Values{1, 2, 4, 5});
  CHECK(contexts("1k:4k") == Values{1024, 2048, 4096});
  CHECK(contexts("1m") == Values{1 << 20});
  CHECK(contexts("1000000") == Values{1000000});
  CHECK(parse_choice("auto", rank_count, "--kvp").kind == Choice::Kind::every);
}

TEST_CASE("rubbish in a LIST is refused with the flag, the text and what is valid") {
  for (const std::string text : {"-5",
                                 "0",
                                 "12q",
                                 "",
                                 ",",
                                 "1,,2",
                                 "1,",
                                 "4:",
                                 ":4",
                                 "8:4",
                                 "5:7",
                                 "1:2:3:4",
                                 "1:4:0",
                                 "k",
                                 "+4",
                                 "0x10",
                                 "1.5",
                                 "99999999999999999999",
                                 "9223372036854775807k",
                                 "1099511627777",
                                 "auto,2",
                                 "1 2"}) {
    CAPTURE(text);
    const std::string message = refusal(text, context_tokens);
    CHECK_THAT(message, Catch::StartsWith("--flag '" + text + "'"));
    CHECK(message.find('\n') == std::string::npos);
  }
  CHECK_THAT(refusal("12q", context_tokens), Catch::Contains("1024") && Catch::Contains("auto"));
}

TEST_CASE("token suffixes belong to token counts only") {
  CHECK_THAT(refusal("4k", batch_requests), Catch::Contains("'4k'"));
  CHECK(contexts("1048576m") == Values{std::int64_t{1} << 40});
  CHECK_FALSE(refusal("1048577m", context_tokens).empty());
}

TEST_CASE("real numbers are finite and in their bounds") {
  CHECK(parse_real("0.5", 0.0, 1.0, "--x") == 0.5);
  CHECK(parse_real("1e-3", 0.0, 1.0, "--x") == 1e-3);
  for (const std::string text : {"-1", "nan", "inf", "1e999", "", "1s", "2"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_real(text, 0.0, 1.0, "--x"), UsageError);
  }
}

TEST_CASE("ranges in steps, and the largest that fits") {
  CHECK(parse_choice("4:20:4,1", batch_requests, "--batch").values ==
        std::vector<std::int64_t>{4, 8, 12, 16, 20, 1});
  CHECK(parse_choice("1k:3k:1k", context_tokens, "--context").values ==
        std::vector<std::int64_t>{1024, 2048, 3072});
  CHECK(parse_choice("max", batch_requests, "--batch").kind == Choice::Kind::most);
  for (const char* text : {"4:2:1", "4:8:0", "4:8:", "4::8", "1:16777216:1", "1:2:3:4"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_choice(text, batch_requests, "--batch"), UsageError);
  }
  CHECK_THROWS_AS(parse_choice("max", rank_count, "--kvp"), UsageError);
}

TEST_CASE("a path with a comma is one entry, alone or among others") {
  const ScratchFolder folder;
  const std::string name = folder.write("a,path,with,commas", "x").string();
  CHECK(split_paths(name, "--model") == std::vector<std::string>{name});
  CHECK(split_paths("a," + name + ",b,a", "--model") == std::vector<std::string>{"a", name, "b"});
}
