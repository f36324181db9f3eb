// Writing that leaves nothing half done: whatever goes wrong (disk full, quota, limit on the size of files),
// a file holds whole pieces of text, and the writer learns of it. Errors are std::system_error, naming the
// file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace helix {

/// Writes a file as a whole or not at all, on disk before it replaces an older one.
void write_atomically(const std::filesystem::path& path, std::string_view text);

/// Throws UsageError, naming the flag, if write_atomically could not write to `path`: found out before
/// minutes are spent on what it should hold.
void require_writable(const std::filesystem::path& path, const char* flag);

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

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::uint64_t bytes_ = 0;
};

}  // namespace helix
