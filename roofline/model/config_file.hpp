// Where a user's config.json is, and what the model in it is called.
#pragma once

#include <filesystem>
#include <string>

namespace helix {

/// A checkpoint's directory stands for the config.json in it.
std::filesystem::path config_file(const std::string& path);

/// "Qwen3-32B" for both Qwen3-32B.json and Qwen3-32B/config.json.
std::string model_name(const std::filesystem::path& config);

}  // namespace helix
