#include <catch2/catch.hpp>

#include <sstream>

#include "sweeps/csv.hpp"

using namespace helix;

TEST_CASE("CSV fields survive writing and reading") {
  const CsvRecord record{"plain", "", "a,b", "say \"x\"", "two\nlines", "cr\rhere"};
  std::istringstream in(csv_line(record) + csv_line(CsvRecord{"next"}));
  const auto records = read_csv(in);
  REQUIRE(records.size() == 2);
  CHECK(records[0] == record);
  CHECK(records[1] == CsvRecord{"next"});
}

TEST_CASE("quotes appear only where RFC 4180 needs them") {
  CHECK(csv_line(CsvRecord{"a b", "1;2", "x,y", "\""}) == "a b,1;2,\"x,y\",\"\"\"\"\n");
}

TEST_CASE("a torn last record is left out, wherever it was torn") {
  const std::string whole = csv_line(CsvRecord{"a", "b,c"});
  const std::string torn = csv_line(CsvRecord{"d", "e \"f\"", "g"});
  for (std::size_t cut = 0; cut < torn.size(); ++cut) {
    std::istringstream in(whole + torn.substr(0, cut));
    CHECK(read_csv(in).size() == 1);
  }
}
