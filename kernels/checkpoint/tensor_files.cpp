#include "kernels/checkpoint/tensor_files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "kernels/checkpoint/unique_names.hpp"
#include "roofline/base/error.hpp"
#include "roofline/base/excerpt.hpp"
#include "roofline/base/json_fields.hpp"
#include "roofline/base/text_file.hpp"

namespace helix {
namespace {

constexpr const char* index_name = "model.safetensors.index.json";
constexpr const char* single_name = "model.safetensors";
constexpr std::size_t longest_index = std::size_t{256} << 20;

/// Tensor to file, as the index has it.
std::map<std::string, std::string> read_index(const std::filesystem::path& path) {
  const nlohmann::json root =
      parse_with_unique_names(read_text_file(path, "index of a checkpoint", longest_index), path);
  const JsonFields index(root, path);
  if (!index.object("weight_map")) index.refuse("weight_map", "expected which file holds which tensor");
  std::map<std::string, std::string> files;
  for (const auto& [name, file] : index.find("weight_map")->items()) {
    const std::string text = file.is_string() ? file.get<std::string>() : "";
    if (text.empty() || text.find('/') != text.npos || text.find('\0') != text.npos || text == "." ||
        text == "..") {
      throw UsageError(fmt::format("{}: tensor '{}': its file is not named", path.string(), excerpt(name)));
    }
    files[name] = text;
  }
  return files;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) {
  // Without waiting for somebody who writes into a pipe.
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  const auto refuse = [&] {
    const std::string why = std::strerror(errno);
    if (descriptor >= 0) close(descriptor);
    throw UsageError(fmt::format("{}: cannot be read: {}", path.string(), why));
  };
  struct stat status {};
  if (descriptor < 0 || fstat(descriptor, &status) != 0) refuse();
  if (!S_ISREG(status.st_mode)) {
    errno = S_ISDIR(status.st_mode) ? EISDIR : EINVAL;
    refuse();
  }
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ > 0) {
    void* const memory = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (memory == MAP_FAILED) refuse();
    data_ = static_cast<const std::byte*>(memory);
  }
  close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
}

TensorFiles::TensorFiles(const std::filesystem::path& path) {
  std::error_code ignored;
  const bool directory = std::filesystem::is_directory(path, ignored);
  if (!directory || !std::filesystem::exists(path / index_name, ignored)) {
    const std::filesystem::path only = directory ? path / single_name : path;
    if (directory && !std::filesystem::exists(only, ignored)) {
      throw UsageError(fmt::format("{}: holds no checkpoint: neither {} nor {} is there", path.string(),
                                   index_name, single_name));
    }
    list_ = only;
    add(only);
    return;
  }
  list_ = path / index_name;
  const std::map<std::string, std::string> index = read_index(list_);
  std::set<std::string> files;
  for (const auto& [name, file] : index) files.insert(file);
  for (const std::string& file : files) add(path / file);
  for (const auto& [name, file] : index) {
    const MappedTensor* const tensor = find(name);
    if (tensor == nullptr || tensor->file != path / file) {
      throw UsageError(fmt::format("{}: tensor '{}' is not there, where {} has it", (path / file).string(),
                                   excerpt(name), index_name));
    }
  }
  for (const auto& [name, tensor] : tensors_) {
    if (!index.contains(name))
      throw UsageError(fmt::format("{}: tensor '{}' is surplus: {} leaves it out", tensor.file, excerpt(name),
                                   index_name));
  }
}

void TensorFiles::add(const std::filesystem::path& path) {
  files_.push_back(std::make_unique<MappedFile>(path));
  const std::span<const std::byte> bytes = files_.back()->bytes();
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (StoredTensor& stored : parse_safetensors_header(text, bytes.size(), path)) {
    const std::string name = stored.name;
    const std::byte* const data = bytes.data() + stored.offset;
    const auto [place, added] = tensors_.try_emplace(name, MappedTensor{std::move(stored), path, data});
    if (!added) {
      throw UsageError(
          fmt::format("{}: tensor '{}' is in {}, too", path.string(), excerpt(name), place->second.file));
    }
  }
}

const MappedTensor* TensorFiles::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

std::size_t TensorFiles::file_bytes() const {
  std::size_t sum = 0;
  for (const auto& file : files_) sum += file->bytes().size();
  return sum;
}

}  // namespace helix
