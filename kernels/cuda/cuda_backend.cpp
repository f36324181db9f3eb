// Memory, time and matrix products of a GPU around the kernels of KernelOps. All ops go to one stream;
// HOP-B's exchanges have one of their own (nccl_communicator.cpp).
#include "kernels/cuda/cuda_backend.hpp"

#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <new>
#include <vector>

#include "kernels/comm/mpi_communicator.hpp"
#include "kernels/cuda/device/cuda_check.hpp"
#include "kernels/cuda/device/graph.hpp"
#include "kernels/cuda/device/nvml.hpp"
#include "kernels/cuda/exchange/nccl_communicator.hpp"
#include "kernels/cuda/kernel_ops.hpp"
#include "kernels/cuda/products/cublas_products.hpp"
#include "kernels/cuda/providers/cuda_driver.hpp"
#include "kernels/cuda/providers/trtllm_gen.hpp"
#include "kernels/cuda/small/packed_weight.hpp"
#include "kernels/cuda/small/small_ops.hpp"
#include "kernels/ops/out_of_memory.hpp"
#include "roofline/base/statistics.hpp"

namespace helix {
namespace cuda {
namespace {

class CudaBuffer final : public Buffer {
 public:
  /// `exchanged`: with NCCL's allocator, so that peers, those on other nodes of an NVLink domain among them,
  /// can be let at it.
  explicit CudaBuffer(std::size_t bytes, bool exchanged = false) : bytes_(bytes), exchanged_(exchanged) {
    if (bytes == 0) return;
    if (exchanged_ && ncclMemAlloc(&data_, bytes) == ncclSuccess) return;
    exchanged_ = false;
    (void)cudaGetLastError();
    const cudaError_t status = cudaMalloc(&data_, bytes);
    if (status == cudaErrorMemoryAllocation) {
      (void)cudaGetLastError();  // not to be reported again by the next call
      throw OutOfMemory(bytes);
    }
    HELIX_CUDA(status);
  }
  ~CudaBuffer() override {
    // Freeing waits for the device, and a rank that ends by an exception may have a collective there that
    // never ends.
    if (data_ == nullptr || std::uncaught_exceptions() > 0) return;
    if (exchanged_) {
      ncclMemFree(data_);
    } else {
      cudaFree(data_);
    }
  }
  CudaBuffer(const CudaBuffer&) = delete;
  CudaBuffer& operator=(const CudaBuffer&) = delete;

  std::byte* data() override { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const override { return bytes_; }
  bool shareable() const override { return exchanged_; }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  bool exchanged_ = false;
};

/// A stream on the device, which becomes the process's current one.
Stream open_stream(const LocalGpu& gpu) {
  HELIX_CUDA(cudaSetDevice(gpu.index));
  Stream stream = nullptr;
  HELIX_CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

/// Far more than the longest that is issued between two waits, the filling of a rank's weights.
constexpr std::chrono::seconds longest_wait{120};

class CudaBackend final : public KernelOps {
 public:
  explicit CudaBackend(const LocalGpu& gpu)
      : KernelOps(gpu.limits, open_stream(gpu)), gpu_(gpu), matrices_(stream(), gpu.compute_capability) {
    add_provider(
        make_trtllm_gen(make_cuda_driver(stream()), trtllm_gen_folder(), gpu.compute_capability, gpu.limits));
  }
  ~CudaBackend() override { cudaStreamDestroy(stream()); }
  CudaBackend(const CudaBackend&) = delete;
  CudaBackend& operator=(const CudaBackend&) = delete;

  std::string name() const override { return "cuda"; }
  std::string device_name() const override { return gpu_.name; }
  std::size_t cache_bytes() const override { return gpu_.l2_bytes; }
  std::vector<std::pair<std::string, std::string>> conditions() const override {
    return gpu_conditions(gpu_.pci_id);
  }
  DeviceSpeed speed() const override { return gpu_speed(gpu_.pci_id); }
  std::optional<double> energy_joules() const override { return gpu_energy_joules(gpu_.pci_id); }

  std::size_t memory_available() const override {
    std::size_t available = 0, total = 0;
    HELIX_CUDA(cudaMemGetInfo(&available, &total));
    return available;
  }
  std::unique_ptr<Buffer> allocate(std::size_t bytes) override {
    refuse_in_capture(stream(), "memory is allocated");
    return std::make_unique<CudaBuffer>(bytes);
  }
  std::unique_ptr<Buffer> allocate_exchanged(std::size_t bytes) override {
    refuse_in_capture(stream(), "memory is allocated");
    return std::make_unique<CudaBuffer>(bytes, true);
  }
  void copy_to_host(void* host, const void* device, std::size_t bytes) override {
    copy(host, device, bytes, cudaMemcpyDeviceToHost);
  }
  void copy_to_device(void* device, const void* host, std::size_t bytes) override {
    copy(device, host, bytes, cudaMemcpyHostToDevice);
  }
  void copy(void* to, const void* from, std::size_t bytes) override {
    if (bytes > 0) HELIX_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream()));
  }
  void set_bytes(void* device, int value, std::size_t bytes) override {
    if (bytes > 0) HELIX_CUDA(cudaMemsetAsync(device, value, bytes, stream()));
  }

  // Asks instead of waiting, so that a peer that is lost or hangs is noticed.
  void synchronize() override {
    using Clock = std::chrono::steady_clock;
    constexpr int polls_per_look = 4096;
    const Clock::time_point begin = Clock::now();
    for (int polls = 0;;) {
      const cudaError_t state = cudaStreamQuery(stream());
      if (state == cudaSuccess) return;
      if (state != cudaErrorNotReady) check_call(state, "running the ops of the stream");
      if (++polls % polls_per_look != 0) continue;
      watch_.check();
      if (Clock::now() - begin < longest_wait) continue;
      watch_.abort_all();
      throw std::runtime_error(fmt::format(
          "the GPU has not finished its ops within {} s: a rank of a collective is missing, or hangs",
          longest_wait.count()));
    }
  }

  bool asynchronous() const override { return true; }
  std::unique_ptr<Stopwatch> make_stopwatch() override { return make_event_stopwatch(stream()); }
  std::unique_ptr<Recording> record(const std::function<void()>& ops) override {
    return capture_graph(stream(), ops);
  }
  // Ranges of NVTX, as Nsight Systems draws them. Steps are issued phase by phase where phases are timed and
  // while a graph is captured; a graph's replay has none.
  void begin_phase(std::optional<Phase> phase) override {
    if (in_phase_) nvtxRangePop();
    in_phase_ = phase.has_value();
    if (phase) nvtxRangePushA(phase_names[static_cast<std::size_t>(*phase)].data());
  }
  std::unique_ptr<Communicator> connect(const MpiGroup& group) override {
    return make_nccl_communicator(group.comm, stream(), limits(), pool_, watch_);
  }

  double read_bandwidth_bytes_per_s(std::span<const std::byte> memory, double seconds) override {
    CudaBuffer sink(sizeof(std::uint32_t));
    const double us = median_call_us(seconds, [&] {
      read_all(stream(), memory.data(), memory.size(), reinterpret_cast<std::uint32_t*>(sink.data()));
    });
    return static_cast<double>(memory.size()) / us * 1e6;
  }

  // Both operands of the type. A GPU without such products widens to bf16, whose peak it then is.
  double matrix_peak_flops_per_s(DType dtype, double seconds) override {
    if (!multiplies(dtype)) return matrix_peak_flops_per_s(DType::bf16, seconds);
    constexpr std::int64_t n = 8192;
    const PackedLayout layout(n, n, dtype);
    CudaBuffer x(packed_bytes(n, n, dtype)), w(x.bytes()), y(n * n * sizeof(float));
    const WeightSlice ordinary_numbers{.key = 1, .rows = n, .cols = n};
    for (CudaBuffer* const operand : {&x, &w})
      fill_weight({.data = operand->data(), .n = n, .k = n, .stride_bytes = operand->bytes(), .dtype = dtype},
                  0, {&ordinary_numbers, 1});
    const MatrixProduct product{.dtype = dtype,
                                .m = n,
                                .n = n,
                                .k = layout.ld,
                                .ldw = layout.ld,
                                .ldx = layout.ld,
                                .ldy = n,
                                .fp32_out = dtype != DType::bf16};
    const MatrixOperands operands{.w = w.data(),
                                  .x = x.data(),
                                  .y = y.data(),
                                  .w_scales = w.data() + layout.scale_offset,
                                  .x_scales = x.data() + layout.scale_offset};
    const double us = median_call_us(seconds, [&] {
      if (!multiply(product, operands))
        throw std::runtime_error(fmt::format("cuBLASLt has no product of {} matrices", helix::name(dtype)));
    });
    return 2.0 * n * n * n / us * 1e6;
  }

 protected:
  bool multiplies(DType dtype) const override { return matrices_.knows(dtype); }
  bool multiply(const MatrixProduct& product, const MatrixOperands& operands) override {
    return matrices_.run(product, operands);
  }

 private:
  void copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (bytes == 0) return;
    HELIX_CUDA(cudaMemcpyAsync(to, from, bytes, kind, stream()));
    synchronize();
  }

  /// Device time of a call that is repeated for about `seconds`: the best of what a busy device does.
  template <class Call>
  double median_call_us(double seconds, const Call& call) {
    const auto stopwatch = make_stopwatch();
    const auto time = [&](int calls) {
      stopwatch->mark(0);
      for (int i = 0; i < calls; ++i) call();
      stopwatch->mark(1);
      synchronize();
      return stopwatch->us_between(0, 1) / calls;
    };
    time(1);
    const double once = time(2);
    constexpr int rounds = 5;
    const int calls = std::max(1, static_cast<int>(seconds * 1e6 / once / rounds));
    std::vector<double> series;
    for (int r = 0; r < rounds; ++r) series.push_back(time(calls));
    return median(series);
  }

  LocalGpu gpu_;
  CublasProducts matrices_;
  NcclWatch watch_;
  NcclPool pool_;
  bool in_phase_ = false;  // a range is open
};

}  // namespace
}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(const cuda::LocalGpu& gpu) {
  return std::make_unique<cuda::CudaBackend>(gpu);
}

}  // namespace helix
