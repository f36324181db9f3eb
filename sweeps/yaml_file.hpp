// YAML files of users: sweeps and TensorRT-LLM configurations.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>

namespace helix {

/// `origin` names the text in a UsageError: malformed, or no mapping.
YAML::Node parse_yaml_map(std::string_view yaml, const std::string& origin);

}  // namespace helix
