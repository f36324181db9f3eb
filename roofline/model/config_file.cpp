#include "roofline/model/config_file.hpp"

#include <system_error>

namespace helix {

std::filesystem::path config_file(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::path inside = std::filesystem::path(path) / "config.json";
  const bool is_folder =
      std::filesystem::is_directory(path, ignored) && std::filesystem::exists(inside, ignored);
  return is_folder ? inside : std::filesystem::path(path);
}

std::string model_name(const std::filesystem::path& config) {
  if (config.stem() != "config") return config.stem().string();
  std::error_code ignored;
  const std::string folder =
      std::filesystem::absolute(config, ignored).lexically_normal().parent_path().filename().string();
  return folder.empty() ? "config" : folder;
}

}  // namespace helix
