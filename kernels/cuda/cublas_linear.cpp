#include "kernels/cuda/cublas_linear.hpp"

#include <fmt/format.h>

#include <stdexcept>

#include "kernels/cuda/cuda_check.hpp"

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

class Operation {
 public:
  Operation() {
    HELIX_CUBLAS(cublasLtMatmulDescCreate(&description_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t transposed = CUBLAS_OP_T;
    HELIX_CUBLAS(cublasLtMatmulDescSetAttribute(description_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                                sizeof(transposed)));
  }
  ~Operation() { cublasLtMatmulDescDestroy(description_); }
  Operation(const Operation&) = delete;
  Operation& operator=(const Operation&) = delete;
  cublasLtMatmulDesc_t get() const { return description_; }

 private:
  cublasLtMatmulDesc_t description_ = nullptr;
};

class Preference {
 public:
  explicit Preference(const CublasLinear::Product& p) {
    HELIX_CUBLAS(cublasLtMatmulPreferenceCreate(&preference_));
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, p.w_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, p.x_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, p.y_align);
    set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, p.y_align);
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
struct CublasLinear::Plan {
  explicit Plan(const Product& p)
      : w(CUDA_R_16BF, p.k, p.n, p.ldw, p.count, p.w_stride),
        x(CUDA_R_16BF, p.k, p.m, p.ldx, p.count, p.x_stride),
        y(p.fp32_out ? CUDA_R_32F : CUDA_R_16BF, p.n, p.m, p.ldy, p.count, p.y_stride) {}

  Operation operation;
  Layout w, x, y;
  cublasLtMatmulAlgo_t algorithm{};
};

CublasLinear::CublasLinear(cudaStream_t stream) : stream_(stream) {
  HELIX_CUBLAS(cublasLtCreate(&handle_));
  HELIX_CUDA(cudaMalloc(&workspace_, workspace_bytes));
}

CublasLinear::~CublasLinear() {
  cudaFree(workspace_);
  cublasLtDestroy(handle_);
}

const CublasLinear::Plan& CublasLinear::plan(const Product& product) {
  std::unique_ptr<Plan>& held = plans_[product];
  if (held) return *held;
  auto fresh = std::make_unique<Plan>(product);
  const Preference preference(product);
  cublasLtMatmulHeuristicResult_t best{};
  int found = 0;
  const cublasStatus_t status =
      cublasLtMatmulAlgoGetHeuristic(handle_, fresh->operation.get(), fresh->w.get(), fresh->x.get(),
                                     fresh->y.get(), fresh->y.get(), preference.get(), 1, &best, &found);
  if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
    throw std::runtime_error(fmt::format("cuBLASLt has no algorithm for {} x [{}, {}] x [{}, {}]: {}",
                                         product.count, product.m, product.k, product.k, product.n,
                                         cublasLtGetStatusName(status)));
  }
  fresh->algorithm = best.algo;
  held = std::move(fresh);
  return *held;
}

void CublasLinear::run(Product product, const void* w, const BF16* x, void* y) {
  product.w_align = alignment(w);
  product.x_align = alignment(x);
  product.y_align = alignment(y);
  const Plan& p = plan(product);
  const float one = 1.0f, zero = 0.0f;
  HELIX_CUBLAS(cublasLtMatmul(handle_, p.operation.get(), &one, w, p.w.get(), x, p.x.get(), &zero, y,
                              p.y.get(), y, p.y.get(), &p.algorithm, workspace_, workspace_bytes, stream_));
}

}  // namespace helix::cuda
