// The tensors of a checkpoint directory: its safetensors files, mapped, and which of them holds which tensor.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/checkpoint/safetensors_header.hpp"

namespace helix {

/// A file in memory as it is read: only pages that are touched are.
class MappedFile {
 public:
  /// Throws UsageError: not there, not readable, a directory.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A tensor and where its bytes are in memory.
struct MappedTensor {
  StoredTensor stored;
  std::string file;
  const std::byte* data = nullptr;
};

class TensorFiles {
 public:
  /// Of a directory: the files that model.safetensors.index.json lists, or model.safetensors; or one safetensors file.
  /// Throws UsageError in one line that names file and tensor: none of them is there, one cannot be read or is damaged,
  /// index and files contradict each other.
  explicit TensorFiles(const std::filesystem::path& path);

  /// Null: there is none of that name.
  const MappedTensor* find(std::string_view name) const;
  /// By name.
  const std::map<std::string, MappedTensor, std::less<>>& all() const { return tensors_; }
  std::size_t file_bytes() const;
  /// The file that says which tensors there are: the index, or the only one.
  const std::string& list() const { return list_; }

 private:
  void add(const std::filesystem::path& path);

  std::string list_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::map<std::string, MappedTensor, std::less<>> tensors_;
};

}  // namespace helix
