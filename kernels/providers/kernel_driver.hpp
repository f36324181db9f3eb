// What kernels that are loaded from files need of a GPU's driver. CUDA's is kernels/cuda/providers/cuda_driver.cpp; tests
// have one that records what it is asked for.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace helix {

/// A descriptor by which the GPU's copy unit (TMA) finds the boxes of a tensor. The driver writes it.
struct alignas(128) TensorMap {
  std::array<std::byte, 128> bytes{};
};

/// What a TensorMap describes, innermost dimension first, whose values are contiguous.
struct TensorBoxes {
  enum class Values { bf16, bytes };
  Values values = Values::bf16;
  const void* base = nullptr;
  std::vector<std::uint64_t> dims{}, strides_bytes{};  // one stride fewer than dimensions
  std::vector<std::uint32_t> box{};
  int swizzle_bytes = 0;  // 0, 32, 64 or 128
};

struct KernelLaunch {
  std::array<unsigned, 3> grid{1, 1, 1};
  unsigned threads = 1, cluster = 1;  // in x
  unsigned shared_bytes = 0;
};

class KernelDriver {
 public:
  using Function = void*;
  virtual ~KernelDriver() = default;

  /// The function of this name in a file of machine code, with so much shared memory, in clusters of any size. It has one
  /// parameter, of `parameter_bytes`. Throws std::runtime_error.
  virtual Function load(const std::filesystem::path& file, const std::string& function, int shared_bytes,
                        std::size_t parameter_bytes) = 0;
  virtual TensorMap describe(const TensorBoxes& boxes) = 0;
  /// Clusters of this launch that the GPU holds at a time.
  virtual int most_clusters(Function function, const KernelLaunch& launch) = 0;
  virtual void launch(Function function, const KernelLaunch& launch, const void* parameter) = 0;
};

}  // namespace helix
