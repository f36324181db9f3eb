#include "kernels/cuda/providers/cuda_driver.hpp"

#include <cuda.h>
#include <fmt/format.h>

#include <array>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <vector>

#include "kernels/cuda/device/cuda_check.hpp"

namespace helix::cuda {
namespace {

/// A function of the driver as its CUDA 12.4 had it, the first that says how large a kernel's parameters are.
template <class Function>
Function* driver_function(const char* name) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  HELIX_CUDA(cudaGetDriverEntryPointByVersion(name, &found, 12040, cudaEnableDefault, &result));
  if (result != cudaDriverEntryPointSuccess || found == nullptr)
    throw std::runtime_error(fmt::format("this GPU's driver has no {}: a newer one is needed", name));
  return reinterpret_cast<Function*>(found);
}

// Looked for once.
#define HELIX_DRIVER_FUNCTION(name) \
  static decltype(::name)* const name##_ = driver_function<decltype(::name)>(#name)

class CudaDriver final : public KernelDriver {
 public:
  explicit CudaDriver(Stream stream) : stream_(stream) {}

  Function load(const std::filesystem::path& file, const std::string& function, int shared_bytes,
                std::size_t parameter_bytes) override {
    HELIX_DRIVER_FUNCTION(cuModuleLoadData);
    HELIX_DRIVER_FUNCTION(cuModuleGetFunction);
    HELIX_DRIVER_FUNCTION(cuFuncSetAttribute);
    HELIX_DRIVER_FUNCTION(cuFuncGetParamInfo);
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> code{std::istreambuf_iterator<char>(in), {}};
    if (code.empty()) throw std::runtime_error(fmt::format("'{}': cannot be read", file.string()));
    CUmodule loaded = nullptr;  // as long as the process
    CUfunction found = nullptr;
    check(cuModuleLoadData_(&loaded, code.data()), "cuModuleLoadData");
    check(cuModuleGetFunction_(&found, loaded, function.c_str()), "cuModuleGetFunction");
    std::size_t offset = 0, size = 0;
    check(cuFuncGetParamInfo_(found, 0, &offset, &size), "cuFuncGetParamInfo");
    if (offset != 0 || size != parameter_bytes) {
      throw std::runtime_error(
          fmt::format("{} takes a parameter of {} bytes, not {}: it is of another version", function, size,
                      parameter_bytes));
    }
    check(cuFuncSetAttribute_(found, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_bytes),
          "cuFuncSetAttribute");
    check(cuFuncSetAttribute_(found, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1),
          "cuFuncSetAttribute");
    return found;
  }

  TensorMap describe(const TensorBoxes& boxes) override {
    static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) && alignof(TensorMap) >= alignof(CUtensorMap));
    HELIX_DRIVER_FUNCTION(cuTensorMapEncodeTiled);
    const std::vector<std::uint32_t> every(boxes.dims.size(), 1);
    TensorMap map;
    check(cuTensorMapEncodeTiled_(
              reinterpret_cast<CUtensorMap*>(&map),
              boxes.values == TensorBoxes::Values::bf16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                                        : CU_TENSOR_MAP_DATA_TYPE_UINT8,
              static_cast<std::uint32_t>(boxes.dims.size()), const_cast<void*>(boxes.base), boxes.dims.data(),
              boxes.strides_bytes.data(), boxes.box.data(), every.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
              boxes.swizzle_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
              : boxes.swizzle_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
              : boxes.swizzle_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                          : CU_TENSOR_MAP_SWIZZLE_NONE,
              CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          "cuTensorMapEncodeTiled");
    return map;
  }

  int most_clusters(Function function, const KernelLaunch& launch) override {
    HELIX_DRIVER_FUNCTION(cuOccupancyMaxActiveClusters);
    Attributes attributes;
    const CUlaunchConfig config = configured(launch, attributes);
    int clusters = 0;
    check(cuOccupancyMaxActiveClusters_(&clusters, static_cast<CUfunction>(function), &config),
          "cuOccupancyMaxActiveClusters");
    return clusters;
  }

  void launch(Function function, const KernelLaunch& launch, const void* parameter) override {
    HELIX_DRIVER_FUNCTION(cuLaunchKernelEx);
    Attributes attributes;
    const CUlaunchConfig config = configured(launch, attributes);
    void* parameters[] = {const_cast<void*>(parameter)};
    check(cuLaunchKernelEx_(&config, static_cast<CUfunction>(function), parameters, nullptr),
          "cuLaunchKernelEx");
  }

 private:
  using Attributes = std::array<CUlaunchAttribute, 2>;

  CUlaunchConfig configured(const KernelLaunch& launch, Attributes& attributes) const {
    attributes = {};
    attributes[0].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
    attributes[0].value.clusterDim = {launch.cluster, 1, 1};
    attributes[1].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE;
    attributes[1].value.clusterSchedulingPolicyPreference =
        launch.cluster > 1 ? CU_CLUSTER_SCHEDULING_POLICY_SPREAD : CU_CLUSTER_SCHEDULING_POLICY_DEFAULT;
    CUlaunchConfig config{};
    config.gridDimX = launch.grid[0];
    config.gridDimY = launch.grid[1];
    config.gridDimZ = launch.grid[2];
    config.blockDimX = launch.threads;
    config.blockDimY = config.blockDimZ = 1;
    config.sharedMemBytes = launch.shared_bytes;
    config.hStream = stream_;
    config.attrs = attributes.data();
    config.numAttrs = static_cast<unsigned>(attributes.size());
    return config;
  }

  static void check(CUresult result, const char* call) {
    if (result == CUDA_SUCCESS) return;
    HELIX_DRIVER_FUNCTION(cuGetErrorName);
    const char* name = nullptr;
    cuGetErrorName_(result, &name);
    throw std::runtime_error(fmt::format("{}: {}", call, name == nullptr ? "an unknown error" : name));
  }

  Stream stream_;
};

}  // namespace

std::unique_ptr<KernelDriver> make_cuda_driver(Stream stream) {
  return std::make_unique<CudaDriver>(stream);
}

}  // namespace helix::cuda
