#include <catch2/catch.hpp>

#include <algorithm>
#include <sstream>

#include "sweeps/common/text_table.hpp"

using namespace helix;
using enum TextColumn::Align;

namespace {

std::size_t widest_line(const std::string& text) {
  std::istringstream lines(text);
  std::size_t widest = 0;
  for (std::string line; std::getline(lines, line);) widest = std::max(widest, line.size());
  return widest;
}

}  // namespace

TEST_CASE("a table leaves out empty columns and puts decimal points below one another") {
  TextTable table({{"name"}, {"empty"}, {"ms", point}, {"n", right}});
  table.add({"a", "", "1.25", "7"});
  table.add({"long", "", "100", "12"});
  const std::string text = table.text(std::nullopt);
  CHECK(text.find("empty") == std::string::npos);
  std::istringstream lines(text);
  std::string head, first, second;
  std::getline(lines, head), std::getline(lines, first), std::getline(lines, second);
  CHECK(first.find("1.25") + 1 == second.find("100") + 3);
}

TEST_CASE("a table that is too wide drops what matters least, then cuts texts, and never wraps") {
  TextTable table({{"strategy"}, {"note", left, 2}, {"bound", left, 1}, {"tok/s", point}});
  table.add({"helix", std::string(60, 'x'), "dram", "12.5"});
  CHECK(widest_line(table.text(200)) > 80);
  CHECK(table.text(84).find("note") != std::string::npos);
  CHECK(widest_line(table.text(83)) <= 83);
  CHECK(table.text(70).find("note") == std::string::npos);
  CHECK(table.text(70).find("bound") != std::string::npos);
  CHECK(table.text(20).find("bound") == std::string::npos);

  TextTable texts({{"id"}, {"value", right}});
  texts.add({std::string(100, 'i'), "3"});
  CHECK(widest_line(texts.text(80)) == 80);
  CHECK_THAT(texts.text(80), Catch::Contains("ii.."));
}

TEST_CASE("texts are broken at blanks") {
  CHECK(wrapped("one two three", 7) == "one two\nthree");
  CHECK(wrapped("one two three", std::nullopt) == "one two three");
  CHECK(wrapped("unbreakable", 4) == "unbreakable");
}
