// Matrix products by cuBLASLt: y = x W^T, bf16 in, fp32 accumulation. The algorithm for a shape is asked for
// once and kept, so that a decode step only launches.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstdint>
#include <map>
#include <memory>

#include "kernels/ops.hpp"

namespace helix::cuda {

class CublasLinear {
 public:
  explicit CublasLinear(cudaStream_t stream);
  ~CublasLinear();
  CublasLinear(const CublasLinear&) = delete;
  CublasLinear& operator=(const CublasLinear&) = delete;

  /// For h in [0, count): y[m, h * y_head_stride + 0:n] = x[m, h * x_head_stride + 0:k] W_h^T. `y` is BF16 or
  /// float.
  struct Product {
    std::int64_t m = 1, n = 0, k = 0;
    std::int64_t ldw = 0, ldx = 0, ldy = 0;
    std::int64_t count = 1, w_stride = 0, x_stride = 0, y_stride = 0;  // in values
    bool fp32_out = false;
    unsigned w_align = 0, x_align = 0, y_align = 0;  // bytes; set by run()
    auto operator<=>(const Product&) const = default;
  };
  void run(Product product, const void* w, const BF16* x, void* y);

 private:
  struct Plan;
  const Plan& plan(const Product& product);

  cudaStream_t stream_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Product, std::unique_ptr<Plan>> plans_;
};

}  // namespace helix::cuda
