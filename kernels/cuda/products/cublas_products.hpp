// Matrix products by cuBLASLt: bf16, and on GPUs that have them e4m3 (compute capability 8.9 on) and e2m1
// with block scales (10.0 on), fp32 accumulation. The algorithm for a shape is asked for once and kept, so
// that a decode step only launches.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <map>
#include <memory>

#include "kernels/cuda/products/matrix_product.hpp"

namespace helix::cuda {

class CublasProducts {
 public:
  CublasProducts(cudaStream_t stream, int compute_capability);
  ~CublasProducts();
  CublasProducts(const CublasProducts&) = delete;
  CublasProducts& operator=(const CublasProducts&) = delete;

  /// Does the GPU have products of this type?
  bool knows(DType dtype) const;
  /// False: the GPU has no such product, or cuBLASLt no algorithm for it (of bf16 an error).
  bool run(const MatrixProduct& product, const MatrixOperands& operands);

 private:
  struct Plan;
  struct Key {
    MatrixProduct product;
    unsigned w_align, x_align, y_align;  // bytes
    auto operator<=>(const Key&) const = default;
  };
  Plan& plan(const Key& key, const MatrixOperands& operands);

  cudaStream_t stream_;
  int compute_capability_;
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Key, std::unique_ptr<Plan>> plans_;
};

}  // namespace helix::cuda
