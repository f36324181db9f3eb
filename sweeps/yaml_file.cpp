#include "sweeps/yaml_file.hpp"

#include <fmt/format.h>

#include "roofline/error.hpp"

namespace helix {

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
