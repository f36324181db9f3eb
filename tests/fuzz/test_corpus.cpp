// What the fuzzer found worth keeping, and every input that once broke a reader, read again in every build.
#include <fmt/format.h>
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "fuzz/readers.hpp"
#include "roofline/base/error.hpp"

using namespace helix;

TEST_CASE("readers accept or refuse whatever the corpus holds") {
  for (const Reader& reader : readers()) {
    std::size_t files = 0, accepted = 0;
    for (const auto& entry : std::filesystem::directory_iterator("corpus/" + std::string(reader.name))) {
      CAPTURE(entry.path().string());
      std::ostringstream text;
      text << std::ifstream(entry.path(), std::ios::binary).rdbuf();
      ++files;
      try {
        reader.read(text.str());
        ++accepted;
      } catch (const UsageError& refusal) {
        CHECK(std::string(refusal.what()).size() < 2000);
      } catch (const std::exception& error) {
        FAIL_CHECK(error.what());
      }
    }
    CAPTURE(reader.name);
    CHECK(files > 0);
    CHECK(accepted > 0);
  }
}

namespace {

std::string repeated(const std::string& piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

/// Each anchor is nine times the one before: 10^9 entries for whoever unfolds it.
std::string billion_laughs() {
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i <= 9; ++i) {
    text += fmt::format("a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]\n", i,
                        i - 1);
  }
  return text;
}

}  // namespace

TEST_CASE("readers refuse what would exhaust stack or memory") {
  std::vector<std::string> texts{billion_laughs() + "model: *a9\n",
                                 billion_laughs() + "name: *a9\ncp_config: {cp_type: *a9}\n",
                                 "model: &a [*a]\n", "&a {*a : *a}", std::string(1 << 16, '\0')};
  for (const char* piece :
       {"[", "{\"a\":", "{a: ", "- ", "? ", "&a ", "!!a ", "\"", "((", "1,", "1:", "\n ", "a: |\n "}) {
    texts.push_back(repeated(piece, 20'000));
  }
  for (const Reader& reader : readers()) {
    for (const std::string& text : texts) {
      CAPTURE(reader.name, text.substr(0, 60));
      try {
        reader.read(text);
      } catch (const UsageError&) {
      }
    }
  }
  SUCCEED();
}
