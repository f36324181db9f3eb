#include "sweeps/common/files.hpp"

#include <sys/stat.h>
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "tests/scratch_folder.hpp"
#include "tests/usage_error.hpp"

using namespace helix;
namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::size_t files_in(const fs::path& path) {
  return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), {}));
}

}  // namespace

TEST_CASE("a replaced file appears when it is committed, and not before") {
  const ScratchFolder scratch;
  const fs::path file = scratch.path / "file";
  write_atomically(file, "old");
  chmod(file.c_str(), 0600);
  {
    ReplacedFile given_up(file);
    given_up.append("half");
  }
  CHECK(read(file) == "old");
  ReplacedFile written(file);
  written.append("a");
  written.append("b");
  CHECK(read(file) == "old");
  written.commit();
  CHECK(read(file) == "ab");
  CHECK((fs::status(file).permissions() & fs::perms::all) ==
        (fs::perms::owner_read | fs::perms::owner_write));
  CHECK(files_in(scratch.path) == 1);
}

TEST_CASE("a symbolic link stays one, also where it leads to nothing yet") {
  const ScratchFolder scratch;
  fs::create_directories(scratch.path / "there");
  fs::create_symlink("there/file", scratch.path / "link");
  write_atomically(scratch.path / "link", "first");
  write_atomically(scratch.path / "link", "second");
  CHECK(fs::is_symlink(scratch.path / "link"));
  CHECK(read(scratch.path / "there/file") == "second");
  CHECK(files_in(scratch.path / "there") == 1);
}

TEST_CASE("pipes and devices are written as they are") {
  const ScratchFolder scratch;
  const fs::path pipe = scratch.path / "pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_NOTHROW(require_writable(pipe, "--out"));
  std::string got;
  std::thread reader([&] { got = read(pipe); });
  write_atomically(pipe, "through");
  reader.join();
  CHECK(got == "through");
  CHECK(fs::is_fifo(pipe));
  write_atomically("/dev/null", "nothing");
  CHECK(fs::is_character_file("/dev/null"));
  CHECK_THROWS_WITH(write_atomically("/dev/full", "x"), Catch::Contains("/dev/full"));
  CHECK_THAT(usage_error([] { write_user_file("/dev/full", "x", "--out"); }),
             Catch::Contains("--out '/dev/full'"));
  CHECK_THAT(usage_error([&] { write_user_file(scratch.path / "no/such", "x", "--csv"); }),
             Catch::Contains("--csv") && Catch::Contains("no/such"));
}

TEST_CASE("what may never end is not opened for reading") {
  const ScratchFolder scratch;
  fs::create_symlink("/dev/zero", scratch.path / "zero");
  CHECK_THAT(usage_error([&] { require_readable(scratch.path / "zero"); }),
             Catch::Contains("no regular file"));
  CHECK_THAT(usage_error([&] { require_readable(scratch.path); }), Catch::Contains("no regular file"));
  CHECK_THAT(usage_error([&] { require_readable(scratch.path / "none"); }), Catch::Contains("is not there"));
  std::ofstream(scratch.path / "file") << "12345";
  CHECK(usage_error([&] { require_readable(scratch.path / "file", 5); }).empty());
  CHECK_THAT(usage_error([&] { require_readable(scratch.path / "file", 4); }), Catch::Contains("more than"));
}
