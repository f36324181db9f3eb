// Writing that leaves nothing half done: whatever goes wrong (disk full, quota, limit on the size of files),
// a file holds whole pieces of text, and the writer learns of it. Errors of writing are std::system_error,
// naming the file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace helix {

/// A file that appears as a whole or not at all: it is written under another name beside its own, and takes
/// the place of an older one when it is complete and on disk. A symbolic link stays, and what it points to is
/// replaced. What is no regular file (a pipe, a terminal, /dev/stdout) is written as it is.
class ReplacedFile {
 public:
  explicit ReplacedFile(const std::filesystem::path& path);
  /// Without `commit` nothing is left of it.
  ~ReplacedFile();
  ReplacedFile(const ReplacedFile&) = delete;
  ReplacedFile& operator=(const ReplacedFile&) = delete;

  void append(std::string_view text);
  void commit();

 private:
  std::filesystem::path path_;              // as the user named it
  std::filesystem::path target_, partial_;  // empty `partial_`: written in place
  int descriptor_ = -1;
};

/// ReplacedFile of one text.
void write_atomically(const std::filesystem::path& path, std::string_view text);

/// write_atomically to a file that a user named in `flag`: what goes wrong is a UsageError.
void write_user_file(const std::filesystem::path& path, std::string_view text, const std::string& flag);

/// Throws UsageError, naming the flag, if write_atomically could not write to `path`: found out before
/// minutes are spent on what it should hold.
void require_writable(const std::filesystem::path& path, const char* flag);

/// Throws UsageError, naming the file: not there, no regular file (a device may never end, and opening a pipe
/// may wait for ever), or larger than such a file is.
void require_readable(const std::filesystem::path& path,
                      std::uintmax_t largest_bytes = std::uintmax_t{1} << 30);

/// Which file a path leads to, beyond its name: a path that leads to another one has been replaced.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const FileIdentity&) const = default;
};
/// All zero if there is none.
FileIdentity identity_of(const std::filesystem::path& path);

/// Grows by pieces of text, each of which is on disk when append returns.
class AppendedFile {
 public:
  explicit AppendedFile(std::filesystem::path path);
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  /// All of `text`, or nothing.
  void append(std::string_view text);
  std::uint64_t bytes() const { return bytes_; }
  /// Takes back what was appended since the file had so many bytes.
  void cut_to(std::uint64_t bytes);
  /// Does its path still lead to it, and has nobody else changed its length?
  bool in_place() const;

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t bytes_ = 0;
};

}  // namespace helix
