#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <new>
#include <string>

namespace helix {

/// Memory that was asked for by size and is not to be had.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::size_t bytes) : message_(text(bytes)) {}
  const char* what() const noexcept override { return message_.c_str(); }

  /// "out of memory: 12.3 GiB wanted".
  static std::string text(std::size_t bytes) {
    constexpr double kib = 1024, mib = kib * kib, gib = mib * kib;
    const auto wanted = static_cast<double>(bytes);
    return wanted >= gib   ? fmt::format("out of memory: {:.1f} GiB wanted", wanted / gib)
           : wanted >= mib ? fmt::format("out of memory: {:.1f} MiB wanted", wanted / mib)
                           : fmt::format("out of memory: {} bytes wanted", bytes);
  }

 private:
  std::string message_;
};

}  // namespace helix
