// What the fuzzer found worth keeping, and every input that once broke a reader, read again in every build.
#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "fuzz/readers.hpp"
#include "roofline/error.hpp"

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
