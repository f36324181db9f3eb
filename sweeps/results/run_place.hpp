// Where a run is kept: its directory, who writes to it, and the link to the latest.
#pragma once

#include <filesystem>

namespace helix {

/// Keeps other processes from writing to the same directory; the system lets go of it when the process dies.
class DirectoryLock {
 public:
  explicit DirectoryLock(const std::filesystem::path& directory);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int descriptor_;
};

/// The directory of a new run: `requested`, or results/<UTC time>-<host>-<pid>. Throws UsageError: not empty,
/// not writable.
std::filesystem::path new_run_directory(const std::filesystem::path& requested);

/// results/<UTC time>-<host>-<pid>, not made yet.
std::filesystem::path new_default_directory();
/// Makes the directory where there is none; true if it already held something, which only a directory that
/// `may_hold_run` may. Throws UsageError.
bool create_or_enter(const std::filesystem::path& path, bool may_hold_run);
/// A run that was killed before its first file stood leaves nothing but pieces of it.
bool holds_run(const std::filesystem::path& path);
/// What a run left that was killed while it wrote a whole file.
void remove_partial_files(const std::filesystem::path& directory);
/// results/latest is the newest run that was not told where to go; where links are not possible there is none.
void point_latest_at(const std::filesystem::path& run);

}  // namespace helix
