#include "sweeps/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "roofline/error.hpp"

namespace helix {
namespace {

namespace fs = std::filesystem;

std::system_error failure(int error, const fs::path& path) {
  return {error, std::generic_category(), fmt::format("cannot write '{}'", path.string())};
}

int open_to_write(const fs::path& path, int flags) {
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666);
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
  // Some file systems find out that the disk is full only now; some files cannot be synchronised.
  return fdatasync(descriptor) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
}

}  // namespace

void write_atomically(const fs::path& path, std::string_view text) {
  const fs::path partial = path.string() + ".partial";
  const int descriptor = open_to_write(partial, O_TRUNC);
  int error = write_all(descriptor, text);
  if (close(descriptor) != 0 && error == 0) error = errno;
  if (error == 0 && rename(partial.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return;
  unlink(partial.c_str());
  throw failure(error, path);
}

void require_writable(const fs::path& path, const char* flag) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    throw UsageError(
        fmt::format("{} '{}': not a file; valid: the name of a file to write", flag, path.string()));
  }
  const fs::path partial = path.string() + ".partial";
  try {
    close(open_to_write(partial, O_TRUNC));
  } catch (const std::system_error& failed) {
    throw UsageError(fmt::format("{} '{}': {}", flag, path.string(), failed.code().message()));
  }
  unlink(partial.c_str());
}

AppendedFile::AppendedFile(fs::path path)
    : path_(std::move(path)), descriptor_(open_to_write(path_, O_APPEND)) {
  const off_t end = lseek(descriptor_, 0, SEEK_END);
  bytes_ = end > 0 ? static_cast<std::uint64_t>(end) : 0;
}

AppendedFile::~AppendedFile() {
  close(descriptor_);
}

void AppendedFile::append(std::string_view text) {
  if (const int error = write_all(descriptor_, text)) {
    cut_to(bytes_);
    throw failure(error, path_);
  }
  bytes_ += text.size();
}

void AppendedFile::cut_to(std::uint64_t bytes) {
  if (ftruncate(descriptor_, static_cast<off_t>(bytes)) == 0) bytes_ = bytes;
}

}  // namespace helix
