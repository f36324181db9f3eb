// YAML files of users: sweeps and TensorRT-LLM configurations.
#pragma once

#include <yaml-cpp/yaml.h>

#include <string>
#include <string_view>

namespace helix {

/// Throws UsageError: a directory, or unreadable.
std::string read_text_file(const std::string& path);
/// `origin` names the text in a UsageError: malformed, or no mapping.
YAML::Node parse_yaml_map(std::string_view yaml, const std::string& origin);

}  // namespace helix
