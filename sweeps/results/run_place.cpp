#include "sweeps/results/run_place.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <system_error>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "host";
}

}  // namespace

fs::path new_default_directory() {
  return fs::path("results") /
         fmt::format("{:%Y%m%dT%H%M%SZ}-{}-{}", fmt::gmtime(std::time(nullptr)), host_name(), getpid());
}

bool create_or_enter(const fs::path& path, bool may_hold_run) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error)
    throw UsageError(
        fmt::format("--out '{}': cannot create the directory: {}", path.string(), error.message()));
  if (access(path.c_str(), W_OK | X_OK) != 0)
    throw UsageError(fmt::format("--out '{}': not writable", path.string()));
  const bool empty = fs::is_empty(path, error);
  if (error) throw UsageError(fmt::format("--out '{}': cannot be read: {}", path.string(), error.message()));
  if (!empty && !may_hold_run) {
    throw UsageError(
        fmt::format("--out '{}': not empty; valid: a new directory, or --resume to continue the run in it",
                    path.string()));
  }
  return !empty;
}

bool holds_run(const fs::path& path) {
  if (fs::exists(path / "results.csv")) return true;
  return !std::ranges::all_of(fs::directory_iterator(path), [](const fs::directory_entry& entry) {
    return entry.path().filename() == "samples.csv" || entry.path().extension() == ".partial";
  });
}

void remove_partial_files(const fs::path& directory) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    if (entry.path().extension() == ".partial") fs::remove(entry.path(), error);
  }
}

void point_latest_at(const fs::path& run) {
  const fs::path latest = run.parent_path() / "latest";
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(latest, ignored)) && !fs::is_symlink(latest, ignored))
    return;  // somebody's own
  const fs::path fresh = run.parent_path() / fmt::format(".latest-{}", getpid());
  fs::create_directory_symlink(run.filename(), fresh, ignored);
  fs::rename(fresh, latest, ignored);
}

fs::path new_run_directory(const fs::path& requested) {
  const fs::path path = requested.empty() ? new_default_directory() : requested;
  create_or_enter(path, false);
  return path;
}

DirectoryLock::DirectoryLock(const fs::path& directory)
    : descriptor_(open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  // File systems without locks are no reason not to run.
  if (descriptor_ >= 0 && flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
    close(descriptor_);
    throw UsageError(fmt::format("--out '{}': another run is writing to it", directory.string()));
  }
}

DirectoryLock::~DirectoryLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

}  // namespace helix
