// Weights as a backend holds them, and which part of a model's tensors they are.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/tensor_ids.hpp"
#include "roofline/base/dtype.hpp"

namespace helix {

/// A block of a tensor: rows [row0, row0 + rows) x columns [col0, col0 + cols). Synthetic values are those of
/// `key` (see synthetic.hpp) times `scale`; a WeightSource has those of the model's tensor `of`.
struct WeightSlice {
  std::uint64_t key = 0;
  std::int64_t row0 = 0, col0 = 0, rows = 0, cols = 0;
  float scale = 1.0f;
  TensorId of{};
  bool operator==(const WeightSlice&) const = default;
};

/// `count` matrices [n, k] (y = W x: n outputs, k inputs) in the backend's packed layout, matrix i at data +
/// i * stride_bytes. count > 1: experts, or per-head products. W is `scale` times what is stored.
struct PackedWeight {
  std::byte* data = nullptr;
  std::int64_t n = 0, k = 0, count = 1;
  std::size_t stride_bytes = 0;
  DType dtype = DType::bf16;
  float scale = 1.0f;
};

}  // namespace helix
