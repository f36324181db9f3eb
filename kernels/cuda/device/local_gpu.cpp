#include "kernels/cuda/device/local_gpu.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "kernels/cuda/device/cuda_check.hpp"

namespace helix::cuda {
namespace {

std::string version(int number) {
  return fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

LocalGpu describe(int index) {
  cudaDeviceProp properties{};
  HELIX_CUDA(cudaGetDeviceProperties(&properties, index));
  std::string uuid;
  for (const char byte : properties.uuid.bytes)
    uuid += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return {
      .index = index,
      .name = properties.name,
      .uuid = uuid,
      .pci_id = fmt::format("{:08x}:{:02x}:{:02x}.0", properties.pciDomainID, properties.pciBusID,
                            properties.pciDeviceID),
      .compute_capability = 10 * properties.major + properties.minor,
      .memory_bytes = properties.totalGlobalMem,
      .l2_bytes = static_cast<std::size_t>(properties.l2CacheSize),
      .limits = {.multiprocessors = properties.multiProcessorCount,
                 .shared_bytes_per_block = static_cast<int>(properties.sharedMemPerBlockOptin),
                 .shared_bytes_per_multiprocessor = static_cast<int>(properties.sharedMemPerMultiprocessor)}};
}

}  // namespace

GpuChoice choose_gpu(int local_rank, int local_ranks) {
  GpuChoice choice;
  int driver = 0, toolkit = 0, devices = 0;
  HELIX_CUDA(cudaRuntimeGetVersion(&toolkit));
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    choice.problem = "no CUDA device: no NVIDIA driver is installed";
    return choice;
  }
  // Within one major version an older driver runs what a newer toolkit built.
  if (driver / 1000 < toolkit / 1000) {
    choice.problem = fmt::format("the NVIDIA driver supports CUDA {}, this program was built with CUDA {}",
                                 version(driver), version(toolkit));
    return choice;
  }
  if (const cudaError_t code = cudaGetDeviceCount(&devices); code != cudaSuccess || devices == 0) {
    choice.problem =
        fmt::format("no CUDA device: {}", code == cudaSuccess ? "none is visible" : cudaGetErrorString(code));
    return choice;
  }
  if (devices < local_ranks && devices > 1) {
    choice.problem = fmt::format("{} ranks on this node, but {} CUDA devices; launch one rank per GPU",
                                 local_ranks, devices);
    return choice;
  }
  choice.gpu = describe(devices == 1 ? 0 : local_rank);
  return choice;
}

}  // namespace helix::cuda
