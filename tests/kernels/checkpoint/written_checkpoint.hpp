// Checkpoints that tests write: safetensors files with the bytes given.
#pragma once

#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernels/ops/bf16.hpp"

namespace helix::testing {

struct WrittenTensor {
  std::string type;
  std::vector<std::int64_t> shape;
  std::string bytes;
};
using WrittenTensors = std::map<std::string, WrittenTensor>;

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

/// The whole file: length, header, data.
inline std::string safetensors_file(const WrittenTensors& tensors) {
  nlohmann::json header = nlohmann::json::object();
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.type},
                    {"shape", tensor.shape},
                    {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  const std::string text = header.dump();
  std::string length(8, '\0');
  const std::uint64_t size = text.size();
  std::memcpy(length.data(), &size, sizeof(size));
  return length + text + data;
}

}  // namespace helix::testing
