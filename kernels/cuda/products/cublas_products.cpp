#include "kernels/cuda/products/cublas_products.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/cuda/device/cuda_check.hpp"

namespace helix::cuda {
namespace {

// What NVIDIA recommends for Hopper and later; room for split-K partial sums.
constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

void check_cublas(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(fmt::format("{}: {}", call, cublasLtGetStatusName(status)));
}
#define HELIX_CUBLAS(call) check_cublas((call), #call)

// The largest power of two up to 256 that divides the address.
unsigned alignment(const void* pointer) {
  const auto address = reinterpret_cast<std::uintptr_t>(pointer) | 256u;
  return static_cast<unsigned>(address & (~address + 1));
}

class Layout {
 public:
  Layout(cudaDataType_t type, std::int64_t rows, std::int64_t cols, std::int64_t ld, std::int64_t count,
         std::int64_t stride) {
    HELIX_CUBLAS(cublasLtMatrixLayoutCreate(&layout_, type, static_cast<std::uint64_t>(rows),
                                            static_cast<std::uint64_t>(cols), ld));
    const auto batch = static_cast<std::int32_t>(count);
    set(CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, batch);
    set(CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, stride);
  }
  ~Layout() { cublasLtMatrixLayoutDestroy(layout_); }
  Layout(const Layout&) = delete;
  Layout& operator=(const Layout&) = delete;
  cublasLtMatrixLayout_t get() const { return layout_; }

 private:
  template <class T>
  void set(cublasLtMatrixLayoutAttribute_t attribute, const T& value) {
    HELIX_CUBLAS(cublasLtMatrixLayoutSetAttribute(layout_, attribute, &value, sizeof(value)));
  }
  cublasLtMatrixLayout_t layout_ = nullptr;
};

cudaDataType_t type_of(DType dtype) {
  return dtype == DType::bf16 ? CUDA_R_16BF : dtype == DType::fp8 ? CUDA_R_8F_E4M3 : CUDA_R_4F_E2M1;
}

class Operation {
 public:
  explicit Operation(DType dtype) {
    HELIX_CUBLAS(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T);
    if (dtype == DType::nvfp4) {
      set(CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3);
      set(CUBLASLT_MATMUL_DESC_B_SCALE_MODE, CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3);
    }
  }
  ~Operation() { cublasLtMatmulDescDestroy(description_); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  void set_scales(const void* w, const void* x) {
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, w);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, x);
  }
  cublasLtMatmulDesc_t get() const { return description_; }

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    HELIX_CUBLAS(cublasLtMatmulDescSetAttribute(description_, attribute, &value, sizeof(value)));
  }
  cublasLtMatmulDesc_t description_ = nullptr;
};

class Preference {
 public:
  Preference(unsigned w_align, unsigned x_align, unsigned y_align) {
    HELIX_CUBLAS(cublasLtMatmulPreferenceCreate(&preference_));
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, w_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, x_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, y_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, y_align);
    // Parts of a split K are added in fp32: in the output's type they would be rounded once more each.
    const std::uint32_t fp32_sums = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, fp32_sums);
  }
  ~Preference() { cublasLtMatmulPreferenceDestroy(preference_); }
  Preference(const Preference&) = delete;
  Preference& operator=(const Preference&) = delete;
  cublasLtMatmulPreference_t get() const { return preference_; }

 private:
  template <class T>
  void set(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    HELIX_CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference_, attribute, &value, sizeof(value)));
  }
  cublasLtMatmulPreference_t preference_ = nullptr;
};

}  // namespace

// cuBLASLt's matrices are column-major: y is seen as [n, m], x as [k, m], W as [k, n], which is transposed.
struct CublasProducts::Plan {
  explicit Plan(const MatrixProduct& p)
      : operation(p.dtype),
        w(type_of(p.dtype), p.k, p.n, p.ldw, p.count, p.w_stride),
        x(type_of(p.dtype), p.k, p.m, p.ldx, p.count, p.x_stride),
        y(p.fp32_out ? CUDA_R_32F : CUDA_R_16BF, p.n, p.m, p.ldy, p.count, p.y_stride) {}

  Operation operation;
  Layout w, x, y;
  bool possible = false;
  cublasLtMatmulAlgo_t algorithm{};
};

CublasProducts::CublasProducts(cudaStream_t stream, int compute_capability)
    : stream_(stream), compute_capability_(compute_capability) {
  HELIX_CUBLAS(cublasLtCreate(&handle_));
  HELIX_CUDA(cudaMalloc(&workspace_, workspace_bytes));
}

CublasProducts::~CublasProducts() {
  cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

CublasProducts::Plan& CublasProducts::plan(const Key& key, const MatrixOperands& operands) {
  std::unique_ptr<Plan>& held = plans_[key];
  if (held) return *held;
  const MatrixProduct& p = key.product;
  auto fresh = std::make_unique<Plan>(p);
  if (p.dtype == DType::nvfp4) fresh->operation.set_scales(operands.w_scales, operands.x_scales);
  const Preference preference(key.w_align, key.x_align, key.y_align);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, fresh->operation.get(), fresh->w.get(), fresh->x.get(),
                                     fresh->y.get(), fresh->y.get(), preference.get(), 1, &best, &found);
  fresh->possible = status == CUBLAS_STATUS_SUCCESS && found > 0;
  if (!fresh->possible && p.dtype == DType::bf16) {
    throw std::runtime_error(fmt::format("cuBLASLt has no algorithm for {} x [{}, {}] x [{}, {}]: {}",
                                         p.count, p.m, p.k, p.k, p.n, cublasLtGetStatusName(status)));
  }
  fresh->algorithm = best.algo;
  held = std::move(fresh);
  return *held;
}

bool CublasProducts::knows(DType dtype) const {
  const int needed = dtype == DType::fp8 ? 89 : dtype == DType::nvfp4 ? 100 : 0;
  return compute_capability_ >= needed;
}

bool CublasProducts::run(const MatrixProduct& product, const MatrixOperands& operands) {
  if (!knows(product.dtype)) return false;
  Plan& p = plan({product, alignment(operands.w), alignment(operands.x), alignment(operands.y)}, operands);
  if (!p.possible) return false;
  if (product.dtype == DType::nvfp4) p.operation.set_scales(operands.w_scales, operands.x_scales);
  const float zero = 0.0f;
  HELIX_CUBLAS(cublasLtMatmul(handle_, p.operation.get(), &product.factor, operands.w, p.w.get(), operands.x,
                              p.x.get(), &zero, operands.y, p.y.get(), operands.y, p.y.get(), &p.algorithm,
                              workspace_, workspace_bytes, stream_));
  return true;
}

}  // namespace helix::cuda
