#pragma once

#include <cstddef>
#include <string>

namespace helix {

/// The text of a file that a user named. `what` names it in errors: "sweep file". Throws UsageError:
/// unreadable, a directory, or longer than `longest` bytes, which no such file is (a path may be a device
/// that never ends).
std::string read_text_file(const std::string& path, const std::string& what,
                           std::size_t longest = std::size_t{16} << 20);

}  // namespace helix
