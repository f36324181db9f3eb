#include "roofline/base/text_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "roofline/base/error.hpp"

namespace helix {

std::string read_text_file(const std::string& path, const std::string& what, std::size_t longest) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored))
    throw UsageError(fmt::format("{} '{}' is a directory, not a file", what, path));
  std::ifstream file(path, std::ios::binary);
  std::string text;
  constexpr std::size_t piece = std::size_t{1} << 20;
  while (file && text.size() <= longest) {
    const std::size_t before = text.size();
    text.resize(before + std::min(piece, longest + 1 - before));
    file.read(text.data() + before, static_cast<std::streamsize>(text.size() - before));
    text.resize(before + static_cast<std::size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad()) throw UsageError(fmt::format("cannot read the {} '{}'", what, path));
  if (text.size() > longest)
    throw UsageError(fmt::format("'{}' has more than {} MiB; expected a {}", path, longest >> 20, what));
  return text;
}

}  // namespace helix
