// What KernelOps asks of the matrix library: cuBLASLt, or the emulation's plain loops.
#pragma once

#include <compare>
#include <cstdint>

#include "roofline/base/dtype.hpp"

namespace helix::cuda {

/// For h in [0, count): y[i, h * y_stride + 0:n] = factor * x[i, h * x_stride + 0:k] W_h^T for i < m, with fp32 sums.
/// W and x are row-major and of one type: bf16, or e4m3 or e2m1 in the layout of packed_weight.hpp, where
/// count = 1, m, n and ldy are multiples of 16, k is the row with its padding and y is fp32.
struct MatrixProduct {
  DType dtype = DType::bf16;
  std::int64_t m = 1, n = 0, k = 0;
  std::int64_t ldw = 0, ldx = 0, ldy = 0;                            // in values
  std::int64_t count = 1, w_stride = 0, x_stride = 0, y_stride = 0;  // in values
  bool fp32_out = false;
  float factor = 1.0f;
  auto operator<=>(const MatrixProduct&) const = default;
};

struct MatrixOperands {
  const void* w;
  const void* x;
  void* y;
  const void* w_scales = nullptr;  // nvfp4
  const void* x_scales = nullptr;
};

}  // namespace helix::cuda
