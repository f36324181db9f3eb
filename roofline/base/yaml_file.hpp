// YAML of users: sweeps, systems and TensorRT-LLM configurations.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>

namespace helix {

/// `origin` names the text in a UsageError: malformed, nested more than 64 deep, or of more than 100,000
/// values, which would take yaml-cpp seconds to minutes.
YAML::Node parse_yaml(std::string_view yaml, const std::string& origin);

/// The same of a mapping; anything else is a UsageError.
YAML::Node parse_yaml_map(std::string_view yaml, const std::string& origin);

}  // namespace helix
