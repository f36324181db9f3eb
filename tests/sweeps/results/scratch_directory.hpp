// A directory for a test's files, and what is in them.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace helix {

struct ScratchDirectory {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("helix-results-" + std::to_string(getpid()));
  ScratchDirectory() { std::filesystem::remove_all(path); }
  ~ScratchDirectory() { std::filesystem::remove_all(path); }
};

inline std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace helix
