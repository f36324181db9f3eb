// A folder of a test's own, removed at the end. ctest runs cases beside each other, each in a process of its own, and
// others use the machine: no fixed name is free.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>

namespace helix {

class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "helix-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no folder " + name + " can be made");
    path = name;
  }
  ~ScratchFolder() {
    std::error_code left;  // in a destructor nothing is to be thrown
    std::filesystem::remove_all(path, left);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  /// The file's path; its folders are made.
  std::filesystem::path write(const std::filesystem::path& file, const std::string& text) const {
    std::filesystem::create_directories((path / file).parent_path());
    std::ofstream(path / file) << text;
    return path / file;
  }

  std::filesystem::path path;
};

}  // namespace helix
