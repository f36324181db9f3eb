// What transformers computed with the checkpoints of this folder; see make_checkpoints.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/checkpoint/tensor_files.hpp"

namespace helix::testing {

inline std::filesystem::path golden_folder() {
  return std::filesystem::path(HELIX_SOURCE_DIR) / "tests/hf/checkpoints";
}

inline std::vector<std::string> golden_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_folder()))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

struct Golden {
  std::vector<std::int64_t> tokens;  // the prompt, and what greedy decoding adds
  std::int64_t prompt = 0;
  std::vector<double> logits;  // [tokens, vocab]
  std::vector<std::int64_t>
      experts;  // [MoE layers, tokens, top_k], a token's in rising order; empty: dense, or untold

  explicit Golden(const std::string& name) {
    const TensorFiles files(golden_folder() / name / "golden.safetensors");
    tokens = values<std::int64_t>(files, "tokens");
    prompt = values<std::int64_t>(files, "prompt").at(0);
    logits = values<double>(files, "logits");
    if (files.find("experts") != nullptr) experts = values<std::int64_t>(files, "experts");
  }

 private:
  template <class T>
  static std::vector<T> values(const TensorFiles& files, const std::string& name) {
    const MappedTensor* const tensor = files.find(name);
    if (tensor == nullptr) throw std::runtime_error("no golden " + name);
    std::vector<T> out(static_cast<std::size_t>(tensor->stored.values()));
    if (tensor->stored.bytes != out.size() * sizeof(T))
      throw std::runtime_error("golden " + name + " of another type");
    std::memcpy(out.data(), tensor->data, tensor->stored.bytes);
    return out;
  }
};

}  // namespace helix::testing
