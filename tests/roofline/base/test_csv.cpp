#include "roofline/base/csv.hpp"

#include <catch2/catch.hpp>
#include <sstream>

#include "tests/usage_error.hpp"

using namespace helix;
using LastLine = CsvReader::LastLine;

namespace {

struct Read {
  std::vector<CsvRecord> records;
  std::vector<std::size_t> lines;
  bool torn = false;
  std::size_t end_line = 0;
};

Read read(const std::string& text, LastLine last_line = LastLine::is_torn) {
  std::istringstream in(text);
  CsvReader reader(in, "x.csv", last_line);
  Read result;
  for (CsvRecord record; reader.next(record);) {
    result.records.push_back(record);
    result.lines.push_back(reader.line());
  }
  result.torn = reader.torn();
  result.end_line = reader.line();
  return result;
}

std::string refusal(const std::string& text) {
  return usage_error([&] { read(text); });
}

}  // namespace

TEST_CASE("CSV fields survive writing and reading") {
  const CsvRecord record{"plain", "", "a,b", "say \"x\"", "two\nlines", "cr\rhere", ""};
  const Read found = read(csv_line(record) + csv_line(CsvRecord{"next"}) + "\r\n" + "a,b\r\n");
  REQUIRE(found.records.size() == 4);
  CHECK(found.records[0] == record);
  CHECK(found.records[1] == CsvRecord{"next"});
  CHECK(found.records[2] == CsvRecord{""});
  CHECK(found.records[3] == CsvRecord{"a", "b"});
  CHECK(found.lines == std::vector<std::size_t>{1, 3, 4, 5});
  CHECK_FALSE(found.torn);
}

TEST_CASE("quotes appear only where RFC 4180 needs them") {
  CHECK(csv_line(CsvRecord{"a b", "1;2", "x,y", "\""}) == "a b,1;2,\"x,y\",\"\"\"\"\n");
}

TEST_CASE("a torn last record is told, wherever it was torn") {
  const std::string whole = csv_line(CsvRecord{"a", "b,c"});
  const std::string torn = csv_line(CsvRecord{"d", "e \"f\"", "g"});
  for (std::size_t cut = 0; cut < torn.size(); ++cut) {
    CAPTURE(cut);
    const Read found = read(whole + torn.substr(0, cut));
    CHECK(found.records.size() == 1);
    CHECK(found.torn == (cut > 0));
    CHECK(found.end_line == 2);
  }
  CHECK(read("a,b\nc", LastLine::may_lack_end).records.back() == CsvRecord{"c"});
  CHECK(read("a,b\nc,", LastLine::may_lack_end).records.back() == CsvRecord{"c", ""});
}

TEST_CASE("damage is refused with the line where it is") {
  CHECK_THAT(refusal("a,b\nc,\"d\ne,f\ng,h\n"),
             Catch::Contains("'x.csv', line 2") && Catch::Contains("never closed"));
  CHECK_THAT(refusal("a,b\nc,\"d\ne,f\ng,\"h, i\"\n"),
             Catch::Contains("line 4") && Catch::Contains("closing quote"));
  CHECK_THAT(refusal("a,b\nc,d\"e\"\n"), Catch::Contains("line 2") && Catch::Contains("middle of a field"));
  CHECK_THAT(refusal("a,b\rc,d\n"), Catch::Contains("carriage return"));
  CHECK_THAT(refusal(std::string("a,b\nc\0d\n", 8)),
             Catch::Contains("line 2") && Catch::Contains("zero byte"));
  CHECK_THAT(refusal("a\n\"" + std::string(2 << 20, 'x')),
             Catch::Contains("line 2") && Catch::Contains("1 MiB"));
}
