#include "sweeps/yaml_file.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "roofline/error.hpp"

namespace helix {

std::string read_text_file(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error))
    throw UsageError(fmt::format("'{}' is a directory, not a file", path));
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf())) throw UsageError(fmt::format("cannot read the file '{}'", path));
  return text.str();
}

YAML::Node parse_yaml_map(std::string_view yaml, const std::string& origin) {
  try {
    const YAML::Node root = YAML::Load(std::string(yaml));
    if (!root.IsMap()) throw UsageError(fmt::format("{}: not a mapping of keys to values", origin));
    return root;
  } catch (const YAML::Exception& error) {
    throw UsageError(fmt::format("{}: malformed, line {}: {}", origin, error.mark.line + 1, error.msg));
  }
}

}  // namespace helix
