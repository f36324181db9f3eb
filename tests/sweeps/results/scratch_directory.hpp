// A run directory for a test, and what is in its files.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/scratch_folder.hpp"

namespace helix {

/// A run directory that is still to be made.
struct ScratchDirectory {
  ScratchFolder folder;
  std::filesystem::path path = folder.path / "run";
};

inline std::string read(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

}  // namespace helix
