#include "sweeps/common/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "roofline/base/error.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

std::system_error failure(int error, const fs::path& path) {
  return {error, std::generic_category(), fmt::format("cannot write '{}'", path.string())};
}

int open_to_write(const fs::path& path, int flags, mode_t mode = 0666) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CLOEXEC | flags, mode);
  if (descriptor < 0) throw failure(errno, path);
  return descriptor;
}

/// 0 or the error.
int write_all(int descriptor, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(descriptor, text.data(), text.size());
    if (written < 0 && errno != EINTR) return errno;
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

/// 0 or the error: some file systems find out only now that the disk is full, and some files
/// cannot be synchronised.
int synchronise(int descriptor) {
  return fdatasync(descriptor) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
}

/// Where the text of `path` goes: what a symbolic link leads to, even where that is still to be made.
fs::path target_of(fs::path path) {
  std::error_code error;
  constexpr int most_links = 40;  // as the system follows
  for (int links = 0; links < most_links && fs::is_symlink(path, error); ++links) {
    const fs::path next = fs::read_symlink(path, error);
    if (error) break;
    path = next.is_absolute() ? next : path.parent_path() / next;
    if (path.string().starts_with("/proc/")) break;  // /dev/stdout: what is open, not a name to replace
  }
  return path;
}

bool is_special(const fs::path& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) return false;
  return !fs::is_regular_file(status) || target_of(path).string().starts_with("/proc/");
}

FileIdentity identity(const struct stat& status) {
  return {static_cast<std::uint64_t>(status.st_dev), static_cast<std::uint64_t>(status.st_ino)};
}

}  // namespace

ReplacedFile::ReplacedFile(const fs::path& path) : path_(path) {
  if (is_special(path_)) {
    descriptor_ = open_to_write(path_, O_APPEND);
    return;
  }
  target_ = target_of(path_);
  partial_ = fmt::format("{}.{}.partial", target_.string(), getpid());
  struct stat status {};
  const bool replaces = stat(target_.c_str(), &status) == 0;
  descriptor_ = open_to_write(partial_, O_CREAT | O_TRUNC | O_NOFOLLOW);
  // Who may read it does not change. A file system that knows no permissions has none to keep.
  if (replaces && fchmod(descriptor_, status.st_mode & 07777) != 0) errno = 0;
}

ReplacedFile::~ReplacedFile() {
  if (descriptor_ < 0) return;
  close(descriptor_);
  if (!partial_.empty()) unlink(partial_.c_str());
}

void ReplacedFile::append(std::string_view text) {
  if (const int error = write_all(descriptor_, text)) throw failure(error, path_);
}

void ReplacedFile::commit() {
  int error = synchronise(descriptor_);
  if (close(std::exchange(descriptor_, -1)) != 0 && error == 0) error = errno;
  if (error == 0 && !partial_.empty() && rename(partial_.c_str(), target_.c_str()) != 0) error = errno;
  if (error == 0) return;
  if (!partial_.empty()) unlink(partial_.c_str());
  throw failure(error, path_);
}

void write_atomically(const fs::path& path, std::string_view text) {
  ReplacedFile file(path);
  file.append(text);
  file.commit();
}

void write_user_file(const fs::path& path, std::string_view text, const std::string& flag) {
  if (path.empty()) throw UsageError(fmt::format("{} '': valid: the name of a file to write", flag));
  try {
    write_atomically(path, text);
  } catch (const std::system_error& failed) {
    throw UsageError(fmt::format("{} '{}': {}", flag, path.string(), failed.code().message()));
  }
}

void require_writable(const fs::path& path, const char* flag) {
  std::error_code error;
  if (fs::is_directory(path, error)) {
    throw UsageError(
        fmt::format("{} '{}': a directory; valid: the name of a file to write", flag, path.string()));
  }
  try {
    // A pipe would wait for its reader, and end for it when it is closed.
    if (!is_special(path))
      const ReplacedFile file(path);
    else if (access(path.c_str(), W_OK) != 0)
      throw failure(errno, path);
  } catch (const std::system_error& failed) {
    throw UsageError(fmt::format("{} '{}': {}", flag, path.string(), failed.code().message()));
  }
}

void require_readable(const fs::path& path, std::uintmax_t largest_bytes) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::is_regular_file(status)) {
    throw UsageError(
        fmt::format("'{}' {}", path.string(), !fs::exists(status) ? "is not there" : "is no regular file"));
  }
  if (access(path.c_str(), R_OK) != 0) {
    throw UsageError(fmt::format("'{}' cannot be read: {}", path.string(),
                                 std::error_code(errno, std::generic_category()).message()));
  }
  if (fs::file_size(path, error) > largest_bytes && !error) {
    throw UsageError(
        fmt::format("'{}' has more than {} MiB, the most that is read", path.string(), largest_bytes >> 20));
  }
}

FileIdentity identity_of(const fs::path& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 ? identity(status) : FileIdentity{};
}

AppendedFile::AppendedFile(fs::path path)
    : path_(std::move(path)), descriptor_(open_to_write(path_, O_CREAT | O_APPEND)) {
  const off_t end = lseek(descriptor_, 0, SEEK_END);
  bytes_ = end > 0 ? static_cast<std::uint64_t>(end) : 0;
}

AppendedFile::~AppendedFile() {
  close(descriptor_);
}

void AppendedFile::append(std::string_view text) {
  int error = write_all(descriptor_, text);
  if (error == 0) error = synchronise(descriptor_);
  if (error != 0) {
    cut_to(bytes_);
    throw failure(error, path_);
  }
  bytes_ += text.size();
}

void AppendedFile::cut_to(std::uint64_t bytes) {
  if (ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0) bytes_ = bytes;
}

bool AppendedFile::in_place() const {
  struct stat opened {};
  return fstat(descriptor_, &opened) == 0 && static_cast<std::uint64_t>(opened.st_size) == bytes_ &&
         identity_of(path_) == identity(opened);
}

}  // namespace helix
